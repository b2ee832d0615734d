"""Overrides of a sweep → the plan of every point, or why it is refused. Nothing is written or spawned."""

from collections.abc import Iterator
from dataclasses import dataclass

from zpipe.compile.compiler import compile_plan
from zpipe.compose.sweep import Point, Sweep, sweep_of
from zpipe.machine.hardware import Hardware, detect
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, either, refuse_if_any
from zpipe.record.store import tracking_problems
from zpipe.schema.experiment import Experiment


@dataclass(frozen=True)
class PlannedPoint:
    """One point of a sweep: its plan, or why it is refused."""

    point: Point
    plan: Plan | None
    problems: tuple[Problem, ...] = ()


def plan_sweep(overrides: list[str], hardware: Hardware | None = None) -> Iterator[PlannedPoint]:
    """Every point of rewritten overrides, in Hydra's order, one at a time: a plan takes 100 kilobytes.

    Raises Refusal if they cannot be listed.
    """
    hardware = hardware or detect()
    with sweep_of(overrides) as sweep:
        for point in sweep.points:
            yield _planned(sweep, point, hardware)


def _planned(sweep: Sweep, point: Point, hardware: Hardware) -> PlannedPoint:
    try:
        composed = sweep.compose(point)
        plan = compile_plan(composed.experiment, point.folder, point.command, hardware, composed.provenance)
        refuse_if_any([*tracking_problems(plan.experiment.tracking), *_several_nodes(plan.experiment)])
    except Refusal as refusal:
        return PlannedPoint(point, None, refusal.problems)
    return PlannedPoint(point, plan)


def _several_nodes(experiment: Experiment) -> Iterator[Problem]:
    if experiment.launcher.nodes > 1:
        reason = "the points of a sweep run on one machine"
        yield Problem("launcher.nodes", experiment.launcher.nodes, reason, "1", either("launcher.nodes=1"))
