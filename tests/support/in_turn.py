"""Several runs in one process, as in a notebook: what a test need not start anew, it does not import anew.

`python -m tests.support.in_turn FILE` trains the runs of FILE, a JSON list with the overrides of each.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import zpipe
from tests.support.process import REPOSITORY, Run, environment


def train_in_turn(cwd: Path, runs: Mapping[str, Iterable[str]]) -> dict[str, Run]:
    """Trains each run with launcher=inprocess, in the run folder `cwd / name`; by name."""
    file = cwd / "runs.json"
    listed = [[*overrides, f"hydra.run.dir={cwd / name}"] for name, overrides in runs.items()]
    file.write_text(json.dumps(listed))
    argv = [sys.executable, "-m", "tests.support.in_turn", str(file)]
    done = subprocess.run(
        argv, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )
    ends = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"exit_code"')]
    assert len(ends) == len(listed), done.stdout[-3000:] + done.stderr[-3000:]
    return {
        name: Run(end["exit_code"], done.stdout, end["reason"] or "", cwd / name)
        for name, end in zip(runs, ends, strict=True)
    }


if __name__ == "__main__":
    for overrides in json.loads(Path(sys.argv[1]).read_text()):
        outcome = zpipe.run(*overrides, "launcher=inprocess")
        print("\n" + json.dumps({"exit_code": outcome.exit_code, "reason": outcome.reason}), flush=True)
