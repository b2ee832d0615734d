"""The machine that a plan is made for."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.slurm import Line

MOST_GPUS = 1024
"""More than any machine has."""
MOST_CORES = 65_536

Rate = Annotated[Number, Field(gt=0, lt=1e6)]
Gib = Annotated[Number, Field(gt=0, lt=2**20)]


def _as_version(value: Any) -> Any:
    """Hydra reads `hardware.compute_capability=9.0` as a number."""
    return f"{value:.1f}" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _of_a_card(value: str) -> str:
    if not value.strip():
        raise ValueError("expected the name of a GPU, as nvidia-smi shows it")
    return value


def _of_cuda(value: str) -> str:
    if re.fullmatch(r"\d{1,2}\.\d", value, re.ASCII) is None:
        raise ValueError("expected MAJOR.MINOR, such as 9.0")
    return value


CardName = Annotated[Line, AfterValidator(_of_a_card), Field(max_length=100)]
Capability = Annotated[str, BeforeValidator(_as_version), AfterValidator(_of_cuda)]


class Tflops(Group):
    """Dense peak of one GPU, without sparsity. Null: what is known of the card, or unknown."""

    bf16: Rate | None = None
    """Matrices in bf16, with sums in fp32, in TFLOP/s."""
    fp16: Rate | None = None
    """Matrices in fp16, with sums in fp32, in TFLOP/s."""
    tf32: Rate | None = None
    """Matrices in TF32, in TFLOP/s."""
    fp32: Rate | None = None
    """Matrices in fp32, without tensor cores, in TFLOP/s."""
    fp8: Rate | None = None
    """Matrices in fp8, with sums in fp32, in TFLOP/s."""


class HardwareSettings(Group):
    """One node of the machine that a plan is for. Null: what is here, or what is known of the card.

    A run needs a machine that has what is described.
    """

    name: CardName | None = None
    """Name of the GPUs, as nvidia-smi shows it."""
    gpus_per_node: Annotated[Count, Field(ge=0, le=MOST_GPUS)] | None = None
    """GPUs of one node."""
    gpu_memory_gib: Gib | None = None
    """Memory of each GPU in GiB; a run does not allocate more."""
    compute_capability: Capability | None = None
    """CUDA compute capability of the GPUs, such as 9.0."""
    host_memory_gib: Gib | None = None
    """Host memory of one node in GiB."""
    cores: Annotated[Count, Field(ge=1, le=MOST_CORES)] | None = None
    """CPU cores of one node, hyperthreads included."""
    nvme_gib: Gib | None = None
    """Free disk space for swap files on one node in GiB."""
    nvme_read_gb_s: Rate | None = None
    """Speed at which swap files are read, in GB/s."""
    nvme_write_gb_s: Rate | None = None
    """Speed at which swap files are written, in GB/s."""
    gpu_link_gb_s: Rate | None = None
    """Bandwidth of one GPU to the others of its node in one direction, in GB/s: NVLink or PCIe."""
    host_link_gb_s: Rate | None = None
    """Bandwidth between one GPU and host memory in one direction, in GB/s: PCIe."""
    network_gb_s: Rate | None = None
    """Bandwidth of one node to the others in one direction, in GB/s."""
    tflops: Tflops = Field(default_factory=Tflops)
