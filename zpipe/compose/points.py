"""Overrides of a sweep → the plan of every point, or why it is refused. Nothing is written or spawned."""

from collections.abc import Iterator
from dataclasses import dataclass

from zpipe.compile.compiler import compile_plan
from zpipe.compose.sweep import Point, Sweep, sweep_of
from zpipe.launchers import launcher_of
from zpipe.machine.hardware import Hardware, detect
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, either, refuse_if_any
from zpipe.record.store import tracking_problems


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
        refuse_if_any([*tracking_problems(plan.experiment.tracking), *_not_here(plan)])
    except Refusal as refusal:
        return PlannedPoint(point, None, refusal.problems)
    return PlannedPoint(point, plan)


def _not_here(plan: Plan) -> Iterator[Problem]:
    """The points of a sweep run on this machine, one after the other or as Hydra's launcher starts them."""
    reason = "the points of a sweep run on one machine, without a queue"
    if plan.launch.hosts:
        hostfile, fix = plan.experiment.launcher.hostfile, either("launcher.hostfile=null")
        yield Problem("launcher.hostfile", hostfile, reason, "null", fix)
    elif plan.launch.nodes > 1:
        yield Problem("launcher.nodes", plan.launch.nodes, reason, "1", either("launcher.nodes=1"))
    if launcher_of(plan.launch.launcher).queues:
        yield Problem("launcher.type", plan.launch.launcher, reason, "torchrun", either("launcher=torchrun"))
