"""The best checkpoint of a run, by a metric that was logged at the steps of its checkpoints."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zpipe.checkpoints.state import CheckpointState
from zpipe.checkpoints.survey import UNCHANGED
from zpipe.problems import Problem, Refusal, nearest
from zpipe.runfolder.events import Metrics
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.run_events import RunEvents

SMALLER_IS_BETTER = ("loss", "perplexity")
"""Metrics whose names end like this; for all others, larger is better. fp16/loss_scale is not a loss."""


@dataclass(frozen=True)
class Best:
    """The best value of a metric and the step at which it was logged."""

    metric: str
    value: float
    step: int


def values_of(folder: RunFolder, metric: str, option: str = "--best ") -> dict[int, float]:
    """The finite values of a metric by step. Raises Refusal for a metric that the run does not have.

    `option` is what the user types before the name of the metric.
    """
    known: set[str] = set()
    values: dict[int, float] = {}
    for event in RunEvents(folder).read_new():
        if isinstance(event, Metrics):
            known.update(event.values)
            if metric in event.values:
                values[event.step] = event.values[metric]
    if metric not in known:
        raise Refusal([_unknown(metric, known, option)])
    return {step: value for step, value in values.items() if math.isfinite(value)}


def best_of(metric: str, values: Mapping[int, float]) -> Best | None:
    """The best of these values, the earliest of several; None without any."""
    sign = 1 if metric.endswith(SMALLER_IS_BETTER) else -1
    step = min(values, key=lambda each: (sign * values[each], each), default=None)
    return None if step is None else Best(metric, values[step], step)


def best_checkpoint(
    metric: str, values: Mapping[int, float], found: Iterable[CheckpointState]
) -> tuple[Best, CheckpointState] | None:
    """The best value at the step of an undamaged checkpoint; None if there is no such step."""
    usable = {each.step: each for each in found if each.state in UNCHANGED}
    best = best_of(metric, {step: value for step, value in values.items() if step in usable})
    return None if best is None else (best, usable[best.step])


def _unknown(metric: str, known: set[str], option: str) -> Problem:
    fix = " or ".join(f"{option}{name}" for name in nearest(metric, known))
    key, _, prefix = option.partition(" ")
    return Problem(key, f"{prefix}{metric}", "this run has no such metric", ", ".join(sorted(known)), fix)
