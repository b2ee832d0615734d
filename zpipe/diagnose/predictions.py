"""Compares what the plan predicted with what was measured, one row per figure."""

from collections.abc import Sequence
from dataclasses import dataclass

from zpipe.facts.facts import gather
from zpipe.machine.hardware import Hardware
from zpipe.machine.samples import Sample
from zpipe.memory.needs import pinned_bytes
from zpipe.plans.plan import Plan
from zpipe.terminal.units import size


@dataclass(frozen=True)
class Row:
    what: str
    predicted: str
    measured: str


def compare(plan: Plan, samples: Sequence[Sample], hardware: Hardware) -> list[Row]:
    """The figures that this plan predicts; empty if it predicts none."""
    return _swapping(plan, samples, hardware)


def _swapping(plan: Plan, samples: Sequence[Sample], hardware: Hardware) -> list[Row]:
    """Pinned memory is the part of the workers' memory that cannot be paged out."""
    pinned = pinned_bytes(plan.experiment, gather(plan.experiment, hardware)) if plan.swap_dir else None
    if not pinned:
        return []
    predicted = f"{size(pinned * plan.launch.nproc_per_node, 2)} pinned"
    peak = max((sample.workers for sample in samples), default=0)
    measured = f"{size(peak, 2)} resident in total" if peak else "not measured"
    return [Row("host memory of all workers", predicted, measured)]
