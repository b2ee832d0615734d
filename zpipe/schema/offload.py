"""Where optimizer states and parameters are kept: DeepSpeed's offload_optimizer, offload_param and aio.

Upstream: deepspeed/runtime/zero/offload_config.py, deepspeed/runtime/swap_tensor/constants.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.stage import Elements

Device = Literal["none", "cpu", "nvme"]


class OffloadOptimizer(Group):
    """Optimizer states and the optimizer step on the host; with nvme the states are swapped to files."""

    device: Device = "none"
    """Where the states are kept: on the GPU, in host memory, or in files."""
    buffer_count: Annotated[Count, Field(ge=1)] | None = None
    """Swap buffers, at least one for each state of a parameter (Adam: 4)."""
    pin_memory: bool | None = None
    """Use page-locked host memory; overrides `offload.pin_memory`."""
    pipeline_read: bool | None = None
    """Read the next tile while the current one is updated (nvme)."""
    pipeline_write: bool | None = None
    """Write the previous tile while the current one is updated (nvme)."""
    fast_init: bool | None = None
    """Initialize the swapped states in one pass (nvme)."""
    ratio: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Fraction of the parameters that the host updates (stage 3)."""
    super_offload: bool | None = None
    """SuperOffload, for superchips (stage 3, CUDA)."""
    cpuadam_cores_perc: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Fraction of the CPU cores that CPU Adam uses under super_offload."""


class OffloadParam(Group):
    """Parameters on the host or in files (stage 3)."""

    device: Device = "none"
    """Where the parameters are kept while they are not in use."""
    buffer_count: Annotated[Count, Field(ge=1)] | None = None
    """Swap buffers, one for each parameter that is live or in flight (nvme)."""
    buffer_size: Annotated[Count, Field(gt=0)] | None = None
    """Elements of one swap buffer, at least the largest parameter partition (nvme)."""
    max_in_cpu: Elements | None = None
    """Parameter elements kept in host memory (nvme)."""
    pin_memory: bool | None = None
    """Use page-locked host memory; overrides `offload.pin_memory`."""


class Aio(Group):
    """DeepSpeed's asynchronous file I/O."""

    block_size: Annotated[Count, Field(gt=0)] | None = None
    """Bytes per request."""
    queue_depth: Annotated[Count, Field(gt=0)] | None = None
    """Requests in flight."""
    intra_op_parallelism: Annotated[Count, Field(gt=0)] | None = None
    """Threads that share one read or write."""
    single_submit: bool | None = None
    """Submit requests one at a time."""
    overlap_events: bool | None = None
    """Submit new requests while others complete."""
    use_gds: bool | None = None
    """Use NVIDIA GPUDirect Storage."""


class Offload(Group):
    """Offload of optimizer states and parameters."""

    offload_optimizer: OffloadOptimizer = Field(default_factory=OffloadOptimizer)
    offload_param: OffloadParam = Field(default_factory=OffloadParam)
    nvme_path: str | None = None
    """Folder in which each run creates a subfolder for its swap files; null means the run folder."""
    pin_memory: bool | None = None
    """Use page-locked host memory for both; DeepSpeed's default is true."""
    aio: Aio = Field(default_factory=Aio)
