"""The points of a sweep as numbers to be drawn: what was swept, how fast it was, what memory it took."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zpipe.sweep.ledger import Attempt
from zpipe.terminal.units import as_written

GPU_MEMORY = "memory/peak_reserved_gib"
HOST_MEMORY = ("memory/host_peak_all_ranks_gib", "memory/host_peak_gib")
SPEED = "tokens_per_sec"


@dataclass(frozen=True)
class Spot:
    """One point of the sweep; figures are None where it came to none."""

    name: str
    settings: dict[str, str]
    """The swept keys alone."""
    ending: str
    reason: str
    loss: float | None
    speed: float | None
    """Tokens a second over all devices."""
    memory: float | None
    """Peak in GiB: of a GPU where there is one, otherwise of the host."""


@dataclass(frozen=True)
class Survey:
    """All points, and the keys by which they differ."""

    spots: list[Spot]
    numeric: list[str]
    """Swept keys with numbers as values: the horizontal axes."""
    categorical: list[str]
    """The other swept keys, config groups such as `stage` among them: the colours."""
    memory_of: str
    """`GPU` or `host`."""

    def line(self, spot: Spot, without: str = "") -> str:
        """What joins points to a line: the settings of all keys but one, for people."""
        keys = [key for key in (*self.categorical, *self.numeric) if key != without]
        return ", ".join(f"{short(key)} {spot.settings.get(key, '')}" for key in keys)

    def front(self) -> list[Spot]:
        """Points that no other beats in speed and in memory, by memory."""
        front: list[Spot] = []
        for spot in sorted(self.measured(), key=lambda each: (each.memory or 0, -(each.speed or 0))):
            if not front or (spot.speed or 0) > (front[-1].speed or 0):
                front.append(spot)
        return front

    def measured(self) -> list[Spot]:
        return [spot for spot in self.spots if spot.speed is not None and spot.memory is not None]

    def failed(self) -> list[Spot]:
        return [spot for spot in self.spots if spot.ending != "finished"]


def survey(points: Iterable[Attempt]) -> Survey:
    """What there is to draw. Keys with one value over the whole sweep are left out."""
    listed = list(points)
    keys = [key for key in _keys(listed) if len({point.settings.get(key) for point in listed}) > 1]
    numeric = [key for key in keys if "." in key and all(_is_number(p.settings.get(key)) for p in listed)]
    on_gpu = any(GPU_MEMORY in point.summary for point in listed)
    memory = (GPU_MEMORY,) if on_gpu else HOST_MEMORY
    return Survey(
        spots=[_spot(point, keys, memory) for point in listed],
        numeric=numeric,
        categorical=[key for key in keys if key not in numeric],
        memory_of="GPU" if on_gpu else "host",
    )


def short(key: str) -> str:
    """The last part of a dotted key."""
    return key.rpartition(".")[2]


def _keys(points: list[Attempt]) -> list[str]:
    return list(dict.fromkeys(key for point in points for key in point.settings))


def _spot(point: Attempt, keys: list[str], memory: Iterable[str]) -> Spot:
    return Spot(
        name=Path(point.folder).name,
        settings={key: as_written(point.settings.get(key, "")) for key in keys},
        ending=point.ending,
        reason=point.reason,
        loss=_first(point, ("eval_loss", "train_loss")),
        speed=_first(point, (SPEED,)),
        memory=_first(point, memory),
    )


def _first(point: Attempt, names: Iterable[str]) -> float | None:
    """The first figure that is there; one that is not finite is none."""
    found = (float(point.summary.get(name, math.nan)) for name in names)
    return next((value for value in found if math.isfinite(value)), None)


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True
