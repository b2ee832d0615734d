"""Compares what the plan predicted with what was measured, one row per figure."""

from collections.abc import Iterator
from dataclasses import dataclass

from zpipe.diagnose.evidence import Evidence
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Hardware
from zpipe.memory.needs import pinned_bytes
from zpipe.plans.plan import Plan
from zpipe.terminal.units import size

_GIB = 2**30
_ONE_RANK = "memory/host_peak_gib"


@dataclass(frozen=True)
class Row:
    what: str
    predicted: str
    measured: str


def compare(plan: Plan, evidence: Evidence, hardware: Hardware) -> list[Row]:
    """The figures that this plan predicts; empty if it predicts none."""
    return [*_gpu(plan, evidence), *_host(plan, evidence, hardware)]


def _gpu(plan: Plan, evidence: Evidence) -> Iterator[Row]:
    gpu = plan.memory.gpu if plan.memory is not None else None
    if gpu is None:
        return
    logged = evidence.progress.values
    for name, predicted in (("allocated", gpu.allocated.total), ("reserved", gpu.reserved)):
        peak = logged.get(f"memory/peak_{name}_gib")
        measured = (
            "not measured" if peak is None else f"{size(round(peak * _GIB), 2)} at the last logged step"
        )
        yield Row(f"{name} on the GPU", size(predicted, 2), measured)
    most = max((used for sample in evidence.samples for used in sample.gpu_used), default=0)
    measured = f"{size(most, 2)} with other processes" if most else "not measured"
    yield Row("used on the fullest GPU", size(gpu.used, 2), measured)


def _host(plan: Plan, evidence: Evidence, hardware: Hardware) -> Iterator[Row]:
    """Pinned memory is the part of the workers' memory that cannot be paged out."""
    peak = max((sample.workers for sample in evidence.samples), default=0)
    measured = f"{size(peak, 2)} resident in total, with the launcher" if peak else "not measured"
    logged = evidence.progress.values.get(_ONE_RANK) if plan.launch.world_size == 1 else None
    if logged is not None:
        measured = f"{size(round(logged * _GIB), 2)} at the last logged step"
    host = plan.memory.host if plan.memory is not None else None
    if host is not None:
        yield Row("host memory of all workers", size(host.node, 2), measured)
    pinned = pinned_bytes(plan.experiment, gather(plan.experiment, hardware)) if plan.swap_dir else None
    if pinned:
        predicted = f"{size(pinned * plan.launch.nproc_per_node, 2)} pinned"
        yield Row("host memory of all workers" if host is None else "of it for swapping", predicted, measured)
