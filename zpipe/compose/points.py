"""Overrides of a sweep → the plan of every point, or why it is refused. Nothing is written or spawned."""

from collections.abc import Iterator
from dataclasses import dataclass

from zpipe.compile.compiler import compile_plan
from zpipe.compose.point_plan import not_on_one_machine
from zpipe.compose.sweep import Point, Sweep, sweep_of
from zpipe.launchers import makes_arrays
from zpipe.launchers.slurm_array import same_job
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
    first: Experiment | None = None
    with sweep_of(overrides) as sweep:
        for point in sweep.points:
            planned = _planned(sweep, point, hardware, first)
            if first is None and planned.plan is not None:
                first = planned.plan.experiment
            yield planned


def _planned(sweep: Sweep, point: Point, hardware: Hardware, first: Experiment | None) -> PlannedPoint:
    try:
        composed = sweep.compose(point)
        plan = compile_plan(composed.experiment, point.folder, point.command, hardware, composed.provenance)
        apart = _not_together(plan, sweep.launcher, first)
        refuse_if_any([*tracking_problems(plan.experiment.tracking), *apart])
    except Refusal as refusal:
        return PlannedPoint(point, None, refusal.problems)
    return PlannedPoint(point, plan)


def _not_together(plan: Plan, of_sweep: str, first: Experiment | None) -> Iterator[Problem]:
    """Points run on this machine, as Hydra's launcher starts them, or as the tasks of one job array."""
    settings, is_array = plan.experiment.launcher, makes_arrays(of_sweep)
    if makes_arrays(settings.type) != is_array:
        reason = "the points of one sweep run either on this machine or in one job array"
        yield Problem("launcher.type", settings.type, reason, of_sweep, either(f"launcher={of_sweep}"))
    elif not is_array:
        yield from not_on_one_machine(plan)
    elif first is not None:
        yield from same_job(first, plan.experiment)
