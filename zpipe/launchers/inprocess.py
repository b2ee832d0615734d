"""No process of its own: the worker runs where zpipe runs (zpipe/launchers/worker_here.py)."""

from pathlib import Path


def argv(run_dir: Path, nproc_per_node: int) -> list[str]:
    """Nothing is spawned."""
    del run_dir, nproc_per_node
    return []
