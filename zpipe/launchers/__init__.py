"""Launchers start the worker processes of a plan. One module, one registry line and one option file each."""

from importlib import import_module

from zpipe.launchers.base import Launcher

MODULES = {
    "torchrun": "zpipe.launchers.torchrun",
    "inprocess": "zpipe.launchers.inprocess",
}
"""Module of each launcher, imported on use; each has a class `LAUNCHER`."""


def launcher_of(name: str) -> Launcher:
    """The launcher of `launcher.type`."""
    launcher: Launcher = import_module(MODULES[name]).LAUNCHER()
    return launcher
