"""Starts a run that failed again, from its newest checkpoint, as often as launcher.max_restarts allows."""

from collections.abc import Callable

from zpipe.plans.plan import Plan
from zpipe.runfolder.outcome import Ending, Outcome
from zpipe.schema.resume import AUTO, NEVER
from zpipe.terminal.console import say

RESTARTED: frozenset[Ending] = frozenset({"rank_died", "hang", "failed"})
"""Endings that another start may not meet again. Memory, disk and loss would be the same."""


def with_restarts(plan: Plan, run: Callable[[Plan], Outcome]) -> Outcome:
    """The outcome of the last start. On several machines each of them counts the same."""
    left = plan.experiment.launcher.max_restarts
    outcome = run(plan)
    while left and outcome.ending in RESTARTED:
        say(f"starting the run again, {left} {'restart' if left == 1 else 'restarts'} left: {outcome.reason}")
        left -= 1
        outcome = run(_continued(plan))
    return outcome


def _continued(plan: Plan) -> Plan:
    """resume=never holds for the first start alone."""
    if plan.experiment.resume.checkpoint != NEVER:
        return plan
    resume = plan.experiment.resume.model_copy(update={"checkpoint": AUTO})
    return plan.model_copy(update={"experiment": plan.experiment.model_copy(update={"resume": resume})})
