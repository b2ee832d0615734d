"""Changing a module of a worker as it is imported, without importing it any earlier."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

Change = Callable[[ModuleType], None]


def change_on_import(module: str, change: Change) -> None:
    """Calls `change` with the module once it has been loaded, if it ever is."""
    if module in sys.modules:
        change(sys.modules[module])
        return
    sys.meta_path.insert(0, _Finder(module, change))


class _Finder(MetaPathFinder):
    """Finds the one module as usual and wraps its loader."""

    def __init__(self, module: str, change: Change) -> None:
        self._module = module
        self._change = change

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._change)
        return spec


class _Loader(Loader):
    def __init__(self, wrapped: Loader, change: Change) -> None:
        self._wrapped = wrapped
        self._change = change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._wrapped.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._wrapped.exec_module(module)
        self._change(module)
