"""The results of a sweep as plain numbers: settings, loss, throughput and memory of each point."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zpipe.runfolder.figures import COMPARED_LOSSES, GPU_PEAK, HOST_PEAK, MFU, SPEED, compared_loss
from zpipe.sweep.ledger import Attempt
from zpipe.terminal.units import as_written


@dataclass(frozen=True)
class PointResult:
    """One point of the sweep; a number is None if the point did not produce it."""

    name: str
    settings: dict[str, str]
    """Only the swept keys."""
    ending: str
    reason: str
    loss: float | None
    speed: float | None
    """Tokens per second over all devices."""
    mfu: float | None
    """Model FLOPs utilization, from 0 to 1."""
    memory: float | None
    """Peak in GiB: of a GPU if there is one, otherwise of the host."""

    @property
    def is_finished(self) -> bool:
        return self.ending == "finished"

    @property
    def shown_ending(self) -> str:
        """The ending for display: `GPU out of memory`."""
        return self.ending.replace("gpu", "GPU").replace("_", " ")


@dataclass(frozen=True)
class SweepResults:
    """All points, and the keys in which they differ."""

    points: list[PointResult]
    numeric: list[str]
    """Swept keys with numeric values: the horizontal axes."""
    categorical: list[str]
    """The other swept keys, config groups such as `stage` among them: the colors."""
    memory_of: str
    """`GPU` or `host`."""
    loss_heading: str = COMPARED_LOSSES["train_loss"]

    def label(self, point: PointResult, without: str = "") -> str:
        """The settings of all swept keys except `without`, for display; equal for the points of one line."""
        keys = [key for key in (*self.categorical, *self.numeric) if key != without]
        return ", ".join(f"{short(key)} {point.settings.get(key, '')}" for key in keys)

    def pareto_front(self) -> list[PointResult]:
        """Points that no other point beats in both throughput and memory, in order of memory."""
        front: list[PointResult] = []
        for point in sorted(self.measured(), key=lambda each: (each.memory or 0, -(each.speed or 0))):
            if not front or (point.speed or 0) > (front[-1].speed or 0):
                front.append(point)
        return front

    def measured(self) -> list[PointResult]:
        """Points with both throughput and memory."""
        return [point for point in self.points if point.speed is not None and point.memory is not None]


def collect_results(attempts: Iterable[Attempt]) -> SweepResults:
    """The results of these attempts. Keys with one value over the whole sweep are left out."""
    listed = list(attempts)
    keys = [key for key in _keys(listed) if len({each.settings.get(key) for each in listed}) > 1]
    numeric = [
        key for key in keys if "." in key and all(_is_number(each.settings.get(key)) for each in listed)
    ]
    on_gpu = any(GPU_PEAK[0] in each.summary for each in listed)
    memory = GPU_PEAK if on_gpu else HOST_PEAK
    loss = compared_loss(each.summary for each in listed)
    return SweepResults(
        points=[_result(each, keys, loss, memory) for each in listed],
        numeric=numeric,
        categorical=[key for key in keys if key not in numeric],
        memory_of="GPU" if on_gpu else "host",
        loss_heading=COMPARED_LOSSES[loss],
    )


def short(key: str) -> str:
    """The last part of a dotted key."""
    return key.rpartition(".")[2]


def _keys(attempts: list[Attempt]) -> list[str]:
    return list(dict.fromkeys(key for attempt in attempts for key in attempt.settings))


def _result(attempt: Attempt, keys: list[str], loss: str, memory: Iterable[str]) -> PointResult:
    return PointResult(
        name=Path(attempt.folder).name,
        settings={key: as_written(attempt.settings.get(key, "")) for key in keys},
        ending=attempt.ending,
        reason=attempt.reason,
        loss=_first_finite(attempt, (loss,)),
        speed=_first_finite(attempt, SPEED),
        mfu=_first_finite(attempt, MFU),
        memory=_first_finite(attempt, memory),
    )


def _first_finite(attempt: Attempt, names: Iterable[str]) -> float | None:
    """The first of these summary values that exists and is finite."""
    found = (float(attempt.summary.get(name, math.nan)) for name in names)
    return next((value for value in found if math.isfinite(value)), None)


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True
