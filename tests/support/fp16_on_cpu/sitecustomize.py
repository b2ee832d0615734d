"""Lets DeepSpeed train in real fp16 on the CPU. Tests put this folder on the workers' PYTHONPATH.

Nothing is imported early: the accelerator's module is changed as it is imported, if it ever is.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODULE = "deepspeed.accelerator.cpu_accelerator"


class Finder(MetaPathFinder):
    """Finds the one module as usual and wraps its loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Patching(spec.loader)
        return spec


class Patching(Loader):
    """Runs the module with its own loader, then says that fp16 is there."""

    def __init__(self, wrapped: Loader) -> None:
        self._wrapped = wrapped

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._wrapped.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._wrapped.exec_module(module)
        module.CPU_Accelerator.is_fp16_supported = lambda self: True


sys.meta_path.insert(0, Finder())
