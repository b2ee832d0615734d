"""A run that failed is started again as often as launcher.max_restarts allows."""

from collections.abc import Callable

import pytest

from tests.support.planning import plan_of
from zpipe.plans.plan import Plan
from zpipe.runfolder.outcome import Ending, Outcome
from zpipe.running.restarts import with_restarts


def ending_with(*endings: Ending) -> tuple[Callable[[Plan], Outcome], list[Plan]]:
    """A run that ends like this, one start after the other, and the plans that it is given."""
    given: list[Plan] = []

    def run(plan: Plan) -> Outcome:
        given.append(plan)
        return Outcome(ending=endings[len(given) - 1], reason="why", run_dir=plan.run_dir)

    return run, given


@pytest.mark.parametrize(
    ("most", "endings", "last"),
    [
        (0, ["rank_died"], "rank_died"),
        (2, ["finished"], "finished"),
        (2, ["rank_died", "finished"], "finished"),
        (2, ["failed", "hang", "rank_died"], "rank_died"),
        (2, ["gpu_out_of_memory"], "gpu_out_of_memory"),
        (2, ["rank_died", "interrupted"], "interrupted"),
        (2, ["preempted"], "preempted"),
    ],
)
def test_a_run_is_started_again_only_after_what_another_start_may_not_meet(
    most: int, endings: list[Ending], last: Ending
) -> None:
    run, given = ending_with(*endings)
    outcome = with_restarts(plan_of(f"launcher.max_restarts={most}"), run)
    assert (outcome.ending, len(given)) == (last, len(endings))


def test_resume_never_holds_for_the_first_start_alone() -> None:
    run, given = ending_with("failed", "finished")
    with_restarts(plan_of("launcher.max_restarts=1", "resume.checkpoint=never"), run)
    assert [plan.experiment.resume.checkpoint for plan in given] == ["never", "auto"]
