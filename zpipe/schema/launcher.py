"""The launcher: how the worker processes are started."""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Group, Number, Texts
from zpipe.schema.batch import Positive


class Launcher(Group):
    """How the worker processes are started."""

    type: Literal["torchrun", "inprocess"] = "torchrun"
    """torchrun: processes of their own; inprocess: this one."""
    nproc_per_node: Positive | None = None
    """Worker processes; null means one for each GPU seen, or 1 without a GPU."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto: CUDA where a GPU and a CUDA build of PyTorch are there, otherwise the CPU."""
    env: Texts = {}
    """Further environment variables of the workers."""
    hang_timeout_s: Annotated[Number, Field(gt=0)] | None = 1800.0
    """Seconds without any sign of life while training until the run is ended as hung; null waits for ever."""
