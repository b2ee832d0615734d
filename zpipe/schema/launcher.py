"""The launcher: how the worker processes are started."""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Group, Number, Texts
from zpipe.schema.batch import Positive


class Launcher(Group):
    """How the worker processes are started."""

    type: str = "torchrun"
    """torchrun, deepspeed, accelerate: worker processes under that launcher; inprocess: the current process;
    debug: one worker without an agent. Installed packages can add others."""
    nproc_per_node: Positive | None = None
    """Worker processes; null means one per visible GPU, or 1 without a GPU."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto: CUDA if a GPU and a CUDA build of PyTorch are available, otherwise the CPU."""
    env: Texts = {}
    """Additional environment variables of the workers."""
    hang_timeout_s: Annotated[Number, Field(gt=0)] | None = 1800.0
    """Seconds without a heartbeat during training after which the run ends as hung; null waits forever."""
