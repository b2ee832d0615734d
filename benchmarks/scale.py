"""Measures how long the plan of a run on many nodes takes.

    python -m benchmarks.scale [RUNS]

Runs `zpipe plan` for 1, 8, 64 and 1,024 nodes with 8 H100 each, in turn, after one warm-up. Prints the median
of the wall-clock and of the processor seconds of each: the latter are the same on a busy machine.
"""

import resource
import statistics
import sys
import tempfile

from benchmarks.startup import seconds

NODES = (1, 8, 64, 1024)


def commands(folder: str) -> dict[str, list[str]]:
    plan = [sys.executable, "-m", "zpipe", "plan", "stage=3", "precision=bf16"]
    found = {}
    for nodes in NODES:
        given = [f"launcher.nodes={nodes}", f"hydra.run.dir={folder}/run"]
        slurm, torchrun = ["launcher=slurm", "launcher.slurm.gpus=8xH100"], ["launcher.master_addr=10.0.0.1"]
        found[f"slurm, {nodes} nodes"] = [*plan, *slurm, *given]
        found[f"torchrun, {nodes} nodes"] = [*plan, *torchrun, "--gpus", "8xH100", *given]
    return found


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    times: dict[str, list[tuple[float, float]]] = {}
    for round_number in range(runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            for name, argv in commands(folder).items():
                before = processor_seconds()
                elapsed = seconds(argv, folder)
                if round_number:
                    times.setdefault(name, []).append((elapsed, processor_seconds() - before))
    print(f"{'plan for':<24} {'wall clock, s':>13} {'processor, s':>12}")
    for name, each in times.items():
        wall, processor = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"{name:<24} {wall:>13.2f} {processor:>12.2f}")


def processor_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
