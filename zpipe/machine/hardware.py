"""The hardware that a run can use, found without importing torch: GPUs (through NVML), cores and memory."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from zpipe.machine.cores import usable_cores
from zpipe.machine.disk import free_bytes_for
from zpipe.machine.host_memory import HostMemoryReader

_DRIVER_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvgpu", "/dev/nvhost-ctrl-gpu")
"""Device files of NVIDIA's driver on a server, in WSL and on Jetson; NVML needs one of them."""


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: int
    """Bytes."""
    compute_capability: tuple[int, int]
    used: int = 0
    """Bytes that other processes hold."""


@dataclass(frozen=True)
class Hardware:
    gpus: tuple[Gpu, ...]
    """GPUs visible to a worker; empty if PyTorch is a CPU build."""
    cores: int
    """CPU cores that this process can use, within its affinity mask and CPU quota; at least 1."""
    memory: int
    """Bytes of host memory that this process can use: the machine's, or less in a control group."""
    visible_gpus: tuple[str, ...] | None = None
    """CUDA_VISIBLE_DEVICES as names, each an index or a UUID; None if the variable is not set."""
    free_disk: Callable[[Path], int] | None = None
    """Free bytes for a folder, which need not exist yet; None for a machine that is not this one."""


def detect() -> Hardware:
    """The hardware of this machine within the limits of this process, CUDA_VISIBLE_DEVICES included."""
    gpus = () if _torch_is_cpu_build() else _visible_gpus()
    memory = HostMemoryReader().limit
    return Hardware(gpus, usable_cores(), memory, visible_gpus(), free_bytes_for)


def visible_gpus() -> tuple[str, ...] | None:
    """CUDA_VISIBLE_DEVICES as names; None if the variable is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if given is None else tuple(name.strip() for name in given.split(",") if name.strip())


def _torch_is_cpu_build() -> bool:
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def _visible_gpus() -> tuple[Gpu, ...]:
    if not any(map(os.path.exists, _DRIVER_DEVICES)):
        return ()
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        count = pynvml.nvmlDeviceGetCount()
        return tuple(_gpu(pynvml, index) for index in visible_indices(count))
    finally:
        pynvml.nvmlShutdown()


def visible_indices(count: int) -> list[int]:
    """CUDA_VISIBLE_DEVICES as indices; UUIDs (GPU-…, MIG-…) are counted, not resolved."""
    names = visible_gpus()
    if names is None:
        return list(range(count))
    indices: list[int] = []
    for position, name in enumerate(names):
        index = int(name) if name.lstrip("-").isdigit() else position
        if not 0 <= index < count:
            break  # like CUDA, which ignores everything after the first invalid device
        indices.append(index)
    return indices


def _gpu(nvml: object, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)  # type: ignore[attr-defined]
    name = nvml.nvmlDeviceGetName(handle)  # type: ignore[attr-defined]
    capability = nvml.nvmlDeviceGetCudaComputeCapability(handle)  # type: ignore[attr-defined]
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else name,
        memory=nvml.nvmlDeviceGetMemoryInfo(handle).total,  # type: ignore[attr-defined]
        compute_capability=(capability[0], capability[1]),
    )
