"""Launchers start the worker processes of a plan. One module, one registry line and one option file each.

A package can add its own: an entry point of the group `zpipe.launchers` names its class.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from zpipe.launchers.base import Launcher

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

MODULES = {
    "torchrun": "zpipe.launchers.torchrun",
    "deepspeed": "zpipe.launchers.deepspeed",
    "accelerate": "zpipe.launchers.accelerate",
    "slurm": "zpipe.launchers.slurm",
    "kubeflow": "zpipe.launchers.kubeflow",
    "inprocess": "zpipe.launchers.inprocess",
    "debug": "zpipe.launchers.debug",
}
"""Module of each launcher, imported on use; each has a class `LAUNCHER`."""

ENTRY_POINTS = "zpipe.launchers"
"""The group in which an installed package names its launchers."""


def launcher_of(name: str) -> Launcher:
    """The launcher of `launcher.type`. Raises LookupError for an unknown name."""
    launcher: Launcher
    if name in MODULES:
        launcher = import_module(MODULES[name]).LAUNCHER()
        return launcher
    for point in _entry_points():
        if point.name == name:
            launcher = point.load()()
            return launcher
    raise LookupError(name)


def makes_arrays(name: str) -> bool:
    """Whether this launcher runs the points of a sweep as the tasks of one job; False for an unknown one."""
    try:
        return launcher_of(name).arrays
    except LookupError:
        return False


def names() -> list[str]:
    """Every launcher that is installed, zpipe's own first."""
    return [*MODULES, *sorted({point.name for point in _entry_points()} - set(MODULES))]


def _entry_points() -> "Iterable[EntryPoint]":
    from importlib import metadata  # reads the metadata of every installed package

    return metadata.entry_points(group=ENTRY_POINTS)
