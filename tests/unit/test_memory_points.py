"""The prediction against measured runs: benchmarks/memory_points.jsonl has one run in each line."""

import json
from functools import cache
from statistics import median
from typing import Any, NamedTuple

import pytest

from benchmarks.memory import CARDS, POINTS
from tests.support.planning import GIB, plan_of
from zpipe.machine.hardware import Hardware
from zpipe.memory.host import FILES_OF_LIBRARIES
from zpipe.plans.plan import Plan

MEASURED_STEADY = 35
"""The margin of such plans comes from so many runs."""
HOST_MEMORY = 2**50
"""Enough for every run: the file does not say what the machines had."""


class Point(NamedTuple):
    """A measured run and the plan of it."""

    name: str
    plan: Plan
    measured: dict[str, Any]

    def error(self, figure: str) -> float | None:
        """Of the prediction, relative to the measured peak; None if this was not measured.

        The measured ranks were forks, which do not have the files of the libraries in their memory.
        """
        memory, measured = self.plan.memory, self.measured.get(figure)
        assert memory is not None, f"{self.name} has no prediction"
        gpu, host = memory.gpu, memory.host
        predicted = {
            "allocated_gib": None if gpu is None else gpu.allocated.total,
            "reserved_gib": None if gpu is None else gpu.reserved,
            "host_gib": None if host is None else host.node - host.ranks * FILES_OF_LIBRARIES,
        }[figure]
        if measured is None:
            return None
        assert predicted is not None, f"{self.name}: {figure} was measured and not predicted"
        return predicted / GIB / float(measured) - 1


@cache
def points() -> tuple[Point, ...]:
    """All measured runs, compiled without the check, for the machines on which they ran."""
    lines = POINTS.read_text(encoding="utf-8").splitlines()
    return tuple(_point(json.loads(line)) for line in lines if line.strip())


def _point(line: dict[str, Any]) -> Point:
    hardware = _hardware(line["gpu"], line["world_size"])
    plan = plan_of(*line["overrides"], "memory.check=warn", hardware=hardware)
    return Point(line["name"], plan, line["measured"])


def _hardware(card: str | None, count: int) -> Hardware:
    gpus = () if card is None else (CARDS[card],) * count
    return Hardware(gpus=gpus, cores=16, memory=HOST_MEMORY)


def errors(figure: str) -> dict[str, float]:
    """By the names of the points that have this figure."""
    found = {point.name: point.error(figure) for point in points()}
    return {name: error for name, error in found.items() if error is not None}


@pytest.mark.parametrize(
    ("figure", "middle", "most"),
    [("allocated_gib", 0.01, 0.09), ("reserved_gib", 0.03, 0.08), ("host_gib", 0.05, 0.11)],
)
def test_errors_of_the_prediction_are_small(figure: str, middle: float, most: float | None) -> None:
    sizes = {name: abs(error) for name, error in errors(figure).items()}
    assert sizes
    listed = "\n".join(
        f"{name}: {size:.1%}" for name, size in sorted(sizes.items(), key=lambda each: -each[1])
    )
    assert median(sizes.values()) <= middle, listed
    assert most is None or max(sizes.values()) <= most, listed


def test_no_run_that_ran_is_said_not_to_fit() -> None:
    refused = [
        (point.name, fit.resource)
        for point in points()
        for fit in point.plan.memory_fits
        if fit.verdict == "does not fit"
    ]
    assert refused == []


def test_no_run_used_more_of_the_gpu_than_a_plan_allows_for() -> None:
    """A plan that fits leaves `margin` free. What is not steady has needed up to 4% more than that."""
    beyond = {}
    for point in points():
        memory, measured = point.plan.memory, point.measured
        assert memory is not None
        if memory.gpu is None or "outside_gib" not in measured:
            continue
        used = measured["reserved_gib"] + measured["outside_gib"]
        beyond[point.name] = used / (memory.gpu.used / GIB) - 1 - memory.gpu.margin
    steady = [point.name for point in points() if _is_steady(point.plan)]
    assert len(steady) >= MEASURED_STEADY
    assert [name for name in steady if beyond[name] > 0] == []
    assert max(beyond.values()) < 0.04


def _is_steady(plan: Plan) -> bool:
    """Whether the layers alone decide the peak, and the plan expects a small error."""
    return plan.memory is not None and plan.memory.gpu is not None and plan.memory.gpu.margin < 0.05


def test_every_point_has_a_name_of_its_own() -> None:
    names = [point.name for point in points()]
    assert len(set(names)) == len(names)
