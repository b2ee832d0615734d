"""What this machine has, without importing torch: GPUs through NVML, cores and memory."""

import os
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: int
    """Bytes."""
    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class Hardware:
    gpus: tuple[Gpu, ...]
    """GPUs that a worker would see; empty when PyTorch is a CPU build."""
    cores: int
    memory: int
    """Host memory in bytes."""


def detect() -> Hardware:
    """The hardware of this machine, as CUDA_VISIBLE_DEVICES leaves it to us."""
    gpus = () if _torch_is_cpu_build() else _visible_gpus()
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(gpus=gpus, cores=cores, memory=memory)


def _torch_is_cpu_build() -> bool:
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def _visible_gpus() -> tuple[Gpu, ...]:
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
    """CUDA_VISIBLE_DEVICES as indices; names such as GPU-… or MIG-… are counted, not resolved."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(range(count))
    names = [name.strip() for name in visible.split(",") if name.strip()]
    indices: list[int] = []
    for position, name in enumerate(names):
        index = int(name) if name.lstrip("-").isdigit() else position
        if not 0 <= index < count:
            break  # CUDA, too, ignores everything behind the first invalid device
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
