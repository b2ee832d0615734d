"""What short runs measured on this machine: kept in the user's cache, and looked up by every later choice.

A measurement holds for one workload, which is everything that the speed depends on and that is not searched:
machine, packages, model, length of the sequences and so on.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from zpipe.facts.facts import Facts
from zpipe.machine.cache import cache_folder
from zpipe.problems import Refusal
from zpipe.runfolder.atomic import read_model
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment
from zpipe.search.identity import json_key, settings_of_shape, workload_digest
from zpipe.search.search import Combination, Search
from zpipe.search.shapes import Shape

FILE_NAME = "measurements.json"


class Measurement(Group):
    """One combination, as a short run found it."""

    workload: str
    """A digest."""
    settings: dict[str, Any]
    """Of the combination, without null."""
    micro_batch: int
    accumulation: int
    tokens_per_second: Annotated[float, Field(gt=0)] | None = None
    """Null if the run did not finish."""
    failed: str = ""
    """How the run ended, if it did not finish."""
    ran_out: bool = False
    """Whether it ran out of memory: the combination is not chosen."""
    day: str
    """Such as 2026-11-28."""
    about: str
    """Machine and model, for people."""


class Measurements(Group):
    """The file."""

    format: Literal[1] = 1
    measurements: list[Measurement] = []


@dataclass(frozen=True)
class Recalled:
    """Measurements of one workload."""

    measurements: tuple[Measurement, ...] = ()
    notice: str = ""
    """Why the file could not be read."""

    def of(self, search: Search) -> "Results":
        """Those of combinations that this search allows."""
        by_shape: dict[str, list[Measurement]] = {}
        for each in self.measurements:
            by_shape.setdefault(json_key(each.settings), []).append(each)
        results = Results()
        for shape in search.shapes if by_shape else ():
            for each in by_shape.get(json_key(settings_of_shape(shape.experiment)), ()):
                if search.accumulation.get(each.micro_batch) == each.accumulation:
                    results.add(shape, each)
        return results


@dataclass
class Results:
    """What is known of the combinations of a search."""

    _known: dict[tuple[Shape, int], Measurement] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, shape: Shape, measurement: Measurement) -> None:
        self._known[shape, measurement.micro_batch] = measurement

    def get(self, combination: Combination) -> Measurement | None:
        return self._known.get((combination.shape, combination.setup.micro_batch))

    def speed(self, combination: Combination) -> float:
        """Measured, or 0."""
        found = self.get(combination)
        return (found.tokens_per_second or 0.0) if found is not None else 0.0

    def combinations(self, search: Search) -> list[Combination]:
        """Those that were tried."""
        return [search.combination(shape, micro) for shape, micro in self._known]

    def too_large(self) -> dict[Shape, int]:
        """By shape, the smallest micro-batch that ran out of memory."""
        least: dict[Shape, int] = {}
        for (shape, micro), each in self._known.items():
            if each.ran_out:
                least[shape] = min(micro, least.get(shape, micro))
        return least


def measurements_file() -> Path:
    return cache_folder() / FILE_NAME


def read_measurements() -> Measurements:
    """Nothing without the file. Raises Refusal if it is damaged, or of another version."""
    file = measurements_file()
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Measurements()
    except OSError:
        pass  # reading it says why
    return read_model(
        Measurements, file, "list of measurements", "a file that zpipe wrote; it may be deleted"
    )


def recall(experiment: Experiment, facts: Facts) -> Recalled:
    """What this machine has measured of the workload. Several nodes must choose the same: they have none."""
    if experiment.auto.measure == "again":
        return Recalled()
    if facts.nodes > 1 or facts.hardware.free_disk is None:
        return Recalled()
    try:
        known = read_measurements().measurements
    except Refusal as refusal:
        return Recalled(notice=f"{measurements_file()} is not used: {refusal.problems[0].reason}")
    if not known:
        return Recalled()
    workload = workload_digest(experiment, facts)
    return Recalled(tuple(each for each in known if each.workload == workload))


def merged(known: Iterable[Measurement], new: Iterable[Measurement], most: int = 1000) -> list[Measurement]:
    """Those of before without what was measured anew, the newest last."""
    latest = {_identity(each): each for each in known}
    for each in new:
        latest.pop(_identity(each), None)
        latest[_identity(each)] = each
    return list(latest.values())[-most:]


def _identity(each: Measurement) -> str:
    return json_key([each.workload, each.settings, each.micro_batch, each.accumulation])
