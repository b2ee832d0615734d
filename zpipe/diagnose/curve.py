"""Draws samples with block characters: one line per resource, whose full height is its limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from zpipe.machine.samples import Sample

GIB = 2**30
WIDTH = 60
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Series:
    """One resource over time, in bytes."""

    name: str
    values: Sequence[int]
    limit: int


def series_of(samples: Sequence[Sample]) -> list[Series]:
    """The resources in these samples; GPUs are numbered as the ranks see them. Empty without samples."""
    if not samples:
        return []
    limit = samples[-1].host_limit
    found = [
        Series("host memory", [sample.host_used for sample in samples], limit),
        Series("all workers", [sample.workers for sample in samples], limit),
    ]
    for gpu, total in enumerate(samples[-1].gpu_total):
        used = [sample.gpu_used[gpu] for sample in samples if len(sample.gpu_used) > gpu]
        found.append(Series(f"GPU {gpu}", used, total))
    free = [sample.disk_free for sample in samples]
    return [*found, Series("disk free", free, max(free))]


def draw(samples: Sequence[Sample]) -> list[str]:
    """Lines of text; empty without samples. Samples without running workers are left out."""
    samples = [sample for sample in samples if sample.workers > 0] or samples
    if not samples:
        return []
    seconds = samples[-1].time - samples[0].time
    lines = [f"the last {seconds:.0f} s, from left to right; the full height is the limit"]
    for series in series_of(samples):
        first, last, most = series.values[0], series.values[-1], max(series.values)
        unit, name = (GIB, "GiB") if series.limit >= GIB else (GIB / 1024, "MiB")
        figures = f"{first / unit:.2f} → {last / unit:.2f}, at most {most / unit:.2f}"
        lines.append(f"{series.name:<12} {spark(series)}  {figures} of {series.limit / unit:.2f} {name}")
    return lines


def spark(series: Series) -> str:
    """One character per time interval, for its highest value relative to the limit."""
    columns = min(WIDTH, len(series.values))
    edges = [round(index * len(series.values) / columns) for index in range(columns + 1)]
    highest = [max(series.values[a:b]) for a, b in pairwise(edges)]
    return "".join(_block(value, series.limit) for value in highest)


def _block(value: int, limit: int) -> str:
    share = value / limit if limit > 0 else 0.0
    return _BLOCKS[min(len(_BLOCKS) - 1, max(0, int(share * len(_BLOCKS))))]
