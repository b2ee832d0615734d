"""What the plan predicted beside what was measured: one row for each figure that has both or either."""

from collections.abc import Sequence
from dataclasses import dataclass

from zpipe.facts.facts import gather
from zpipe.machine.hardware import Hardware
from zpipe.machine.samples import Sample
from zpipe.memory.needs import pinned_bytes
from zpipe.plan.plan import Plan

GIB = 2**30


@dataclass(frozen=True)
class Row:
    what: str
    predicted: str
    measured: str


def compare(plan: Plan, samples: Sequence[Sample], hardware: Hardware) -> list[Row]:
    """The figures that this plan predicts; none where it predicts nothing."""
    return _swapping(plan, samples, hardware)


def _swapping(plan: Plan, samples: Sequence[Sample], hardware: Hardware) -> list[Row]:
    """Pinned memory is part of what the workers hold, and the part that cannot be paged out."""
    pinned = pinned_bytes(plan.experiment, gather(plan.experiment, hardware)) if plan.swap_dir else None
    if not pinned:
        return []
    predicted = f"{pinned * plan.launch.nproc_per_node / GIB:.2f} GiB pinned"
    most = max((sample.workers for sample in samples), default=0)
    measured = f"{most / GIB:.2f} GiB resident in all" if most else "not measured"
    return [Row("host memory of all workers", predicted, measured)]
