"""Plan → argv and environment of the worker processes. One module and one registry line a launcher."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

MODULES = {
    "torchrun": "zpipe.launchers.torchrun",
    "inprocess": "zpipe.launchers.inprocess",
}

Argv = Callable[[Path, int], list[str]]


def argv_of(launcher: str, run_dir: Path, nproc_per_node: int) -> list[str]:
    """The command that starts every worker of the run in `run_dir`."""
    build: Argv = import_module(MODULES[launcher]).argv
    return build(run_dir, nproc_per_node)
