"""What a described machine has and this one lacks."""

from collections.abc import Iterator

from zpipe.machine.hardware import Hardware
from zpipe.machine.hardware_fixes import undescribed
from zpipe.problems import Problem, either
from zpipe.schema.hardware import HardwareSettings

GIB = 2**30
TOLERANCE = 0.05
"""The share of a memory that drivers and the kernel keep for themselves."""


def lacking(settings: HardwareSettings, here: Hardware, as_here: str = "") -> Iterator[Problem]:
    """What is described and this machine does not have: a run here would not be the one that was planned.

    `as_here` are the overrides with which the machine is this one, where they are known from the sources.
    """
    for name, found in _lower(settings, here):
        key, allowed = f"hardware.{name}", "what it has; a plan may describe more"
        alone = f"{key}=null" if _is_free(name, settings, here) else ""
        fix = either(*dict.fromkeys(filter(None, (as_here or undescribed(settings), alone))))
        yield Problem(key, getattr(settings, name), f"this machine has {found}", allowed, fix)


def _lower(settings: HardwareSettings, here: Hardware) -> Iterator[tuple[str, str]]:
    """The keys of which this machine has less, each with what it has."""
    count, memory = settings.gpus_per_node, in_bytes(settings.gpu_memory_gib)
    used = here.gpus[:count]
    if count is not None and count > len(here.gpus):
        yield "gpus_per_node", f"{len(here.gpus)} that PyTorch can use"
    least = min((gpu.memory for gpu in used), default=None)
    if memory is not None and least is not None and least < memory * (1 - TOLERANCE):
        yield "gpu_memory_gib", f"{least / GIB:.1f} GiB on a GPU"
    oldest = min((gpu.compute_capability for gpu in used), default=None)
    wanted = as_capability(settings.compute_capability)
    if wanted is not None and oldest is not None and oldest < wanted:
        yield "compute_capability", f"{oldest[0]}.{oldest[1]}"
    host = in_bytes(settings.host_memory_gib)
    if host is not None and here.memory < host * (1 - TOLERANCE):
        yield "host_memory_gib", f"{here.memory / GIB:.1f} GiB"
    if settings.cores is not None and here.cores < settings.cores:
        yield "cores", str(here.cores)


def _is_free(name: str, settings: HardwareSettings, here: Hardware) -> bool:
    """Whether this key alone can be null. Of a described card the other keys would remain."""
    if name in ("host_memory_gib", "cores"):
        return True
    return bool(here.gpus) and all(gpu.name == (settings.name or gpu.name) for gpu in here.gpus)


def as_capability(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def in_bytes(gib: float | None) -> int | None:
    return None if gib is None else round(gib * GIB)
