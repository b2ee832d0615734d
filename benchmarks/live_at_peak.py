"""Which allocations are alive at the peak of each phase, by the code that made them."""

from collections import defaultdict
from typing import Any

SKIPPED = (
    "torch/autograd",
    "torch/nn/modules/module.py",
    "torch/utils/_contextlib",
    "benchmarks/",
    "torch/_tensor.py",
)
LEAST = 4 * 2**20
"""Smaller allocations are summed up."""


def live_at_peaks(trace: list[dict[str, Any]], phases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each phase, the bytes alive at its peak, by size and origin. Times of phases are their ends."""
    ends = [(each["phase"], each["time"] * 1e6) for each in phases]
    result = []
    alive: dict[int, dict[str, Any]] = {}
    snapshot: dict[int, dict[str, Any]] = {}
    total, best, position = 0, -1, 0
    for event in trace:
        while position < len(ends) and event["time_us"] > ends[position][1]:
            result.append({"phase": ends[position][0], "peak": best, "live": grouped(snapshot.values())})
            position, best, snapshot = position + 1, total, dict(alive)
        if event["action"] == "alloc":
            alive[event["addr"]] = event
            total += event["size"]
            if total > best:
                best, snapshot = total, {}
        elif event["action"] == "free_completed" and event["addr"] in alive:
            if not snapshot and best == total:
                snapshot = dict(alive)
            total -= alive.pop(event["addr"])["size"]
    return result


def grouped(events: Any) -> list[tuple[int, int, str]]:
    """Total bytes, number and origin, the largest first."""
    sums: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
    for event in events:
        key = (event["size"], origin(event.get("frames", []))) if event["size"] >= LEAST else (0, "small")
        sums[key][0] += event["size"]
        sums[key][1] += 1
    rows = sorted(
        ((total, number, f"{key[0]} {key[1]}") for key, (total, number) in sums.items()), reverse=True
    )
    return rows[:40]


def origin(frames: list[dict[str, Any]]) -> str:
    """The innermost frames of Python that tell something."""
    names = []
    for frame in frames:
        file = frame["filename"]
        if not file.endswith(".py") or any(text in file for text in SKIPPED):
            continue
        names.append(f"{'/'.join(file.split('/')[-2:])}:{frame['line']}:{frame['name']}")
        if len(names) == 3:
            break
    return " < ".join(names)
