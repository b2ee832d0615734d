"""Plants a fault in the training workers. Tests put this folder on their PYTHONPATH.

ZPIPE_FAULT is `KIND RANK STEP`: at the end of that step, that rank raises an exception or asks for memory
until it gets no more. Nothing is imported early: the callback is changed as its module is imported.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODULE = "zpipe.train.callbacks"
CHUNK = 64 * 2**20


def fail() -> None:
    raise ValueError("a planted fault")


def hoard() -> None:
    held = []
    while True:
        held.append(b"\1" * CHUNK)


KINDS = {"raise": fail, "hoard": hoard}


class Finder(MetaPathFinder):
    """Finds the one module as usual and wraps its loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Planting(spec.loader)
        return spec


class Planting(Loader):
    """Runs the module with its own loader, then wraps the callback that ends a step."""

    def __init__(self, wrapped: Loader) -> None:
        self._wrapped = wrapped

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._wrapped.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._wrapped.exec_module(module)
        kind, rank, step = os.environ["ZPIPE_FAULT"].split()
        if rank != os.environ.get("RANK"):
            return
        end_of_step = module.EventCallback.on_step_end

        def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
            end_of_step(self, args, state, control, **more)
            if state.global_step == int(step):
                KINDS[kind]()

        module.EventCallback.on_step_end = on_step_end


if "ZPIPE_FAULT" in os.environ:
    sys.meta_path.insert(0, Finder())
