"""Measures the startup time of the command line, compared to accelerate's.

    python -m benchmarks.startup [RUNS]

Runs each command in turn, A B C A B C …, after one warm-up. Prints the median wall-clock seconds and the
ratio to `accelerate launch --help`. Also runs `zpipe plan` in an interpreter that cannot import torch,
transformers, deepspeed or mlflow.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAVY = ("torch", "transformers", "deepspeed", "mlflow")
BLOCKED = (
    "import sys; sys.modules.update(dict.fromkeys({names!r}));"
    "from zpipe.cli.main import main; sys.exit(main())"
)
BASE = "accelerate launch --help"


def commands() -> dict[str, list[str]]:
    python = sys.executable
    accelerate = str(Path(python).parent / "accelerate")
    return {
        "zpipe --help": [python, "-m", "zpipe", "--help"],
        "zpipe plan stage=3": [python, "-m", "zpipe", "plan", "stage=3"],
        "zpipe plan stage=3, without torch": [python, "-c", BLOCKED.format(names=HEAVY), "plan", "stage=3"],
        BASE: [accelerate, "launch", "--help"],
    }


def seconds(argv: list[str], folder: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    subprocess.run(argv, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    times: dict[str, list[float]] = {name: [] for name in commands()}
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(runs + 1):
            for name, argv in commands().items():
                elapsed = seconds(argv, folder)
                if round_number:
                    times[name].append(elapsed)
    base = statistics.median(times[BASE])
    print(f"{'command':<36} {'median, s':>9} {'min, s':>7} {'of accelerate':>14}")
    for name, each in times.items():
        median = statistics.median(each)
        print(f"{name:<36} {median:>9.3f} {min(each):>7.3f} {median / base:>13.2f}x")


if __name__ == "__main__":
    main()
