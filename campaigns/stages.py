"""Trains every valid pair of stage and offload on two ranks, in fp32 and in bf16, each in its own processes.

    python -m campaigns.stages

Prints a line for each run, and ends with 0 if each one finished without a difference from its plan.
"""

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.support.process import REPOSITORY, Run, zpipe
from tests.support.stage_matrix import TWO_RANKS


def main() -> int:
    console = Console()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        text_file = Path(folder) / "train.txt"
        text_file.write_text((REPOSITORY / "LICENSE").read_text(encoding="utf-8") * 10, encoding="utf-8")
        for case in TWO_RANKS:
            began = time.monotonic()
            problem = _problem(zpipe(Path(folder), *case.overrides(text_file), folder=case.name))
            failed += problem != ""
            console.print(f"{case.name:24} {problem or 'ok'}  {time.monotonic() - began:.0f} s", markup=False)
    console.print(f"{len(TWO_RANKS) - failed} of {len(TWO_RANKS)} trained as planned")
    return 1 if failed else 0


def _problem(run: Run) -> str:
    if run.exit_code != 0:
        return f"exit {run.exit_code}: {run.stderr[-300:]}"
    differences = [event["key"] for event in run.events if event["event"] == "difference"]
    return f"differs from the plan: {', '.join(differences)}" if differences else ""


if __name__ == "__main__":
    sys.exit(main())
