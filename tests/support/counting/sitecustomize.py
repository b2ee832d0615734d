"""Counts what a run should do once. Tests put this folder on their PYTHONPATH.

Each composition, compilation and hardware detection of zpipe itself is a line of the file ZPIPE_COUNTS;
a compilation adds its plan.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.on_import import change_on_import


def counted(name: str, function: Callable[..., Any], shown: Callable[[Any], Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        result = function(*arguments, **more)
        with Path(os.environ["ZPIPE_COUNTS"]).open("a") as file:
            file.write(json.dumps([name, shown(result)]) + "\n")
        return result

    return call


def count_compositions(module: ModuleType) -> None:
    loader = module.ConfigLoaderImpl
    loader.load_configuration = counted("composition", loader.load_configuration, lambda result: None)


def count_compilations(module: ModuleType) -> None:
    module.compile_plan = counted(  # type: ignore[attr-defined]
        "compilation", module.compile_plan, lambda plan: plan.model_dump(mode="json")
    )


def count_detections(module: ModuleType) -> None:
    module.detect = counted("detection", module.detect, lambda result: None)  # type: ignore[attr-defined]


if "ZPIPE_COUNTS" in os.environ and "RANK" not in os.environ:
    change_on_import("hydra._internal.config_loader_impl", count_compositions)
    change_on_import("zpipe.compile.compiler", count_compilations)
    change_on_import("zpipe.machine.hardware", count_detections)
