"""Plants a fault in the training workers. Tests put this folder on their PYTHONPATH.

ZPIPE_FAULT is `KIND RANK STEP`: at the end of that step, that rank raises an exception or asks for memory
until it gets no more.
"""

import os
from types import ModuleType
from typing import Any

from tests.support.on_import import change_on_import

CHUNK = 64 * 2**20


def fail() -> None:
    raise ValueError("a planted fault")


def hoard() -> None:
    held = []
    while True:
        held.append(b"\1" * CHUNK)


KINDS = {"raise": fail, "hoard": hoard}


def plant(module: ModuleType) -> None:
    """Wraps the callback that ends a step."""
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
    change_on_import("zpipe.train.callbacks", plant)
