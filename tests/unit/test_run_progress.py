"""The state of a run over several attempts: what it learned stays, how an earlier attempt ended does not."""

from pathlib import Path

from tests.support.events import event
from tests.support.plans import make_plan
from tests.support.recording import metrics, phase, write_events
from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence
from zpipe.runfolder.events import Event
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents

FAILED_AT_5 = (
    event("phase", name="model"),
    event("step", step=5, of=8),
    event("metrics", step=5, values={"loss": 3.0, "grad_norm": 1.0}),
    event("overflow", step=5, scale_after=2.0, skipped_total=1),
    event("checkpoint", step=4, path="checkpoint-4", bytes=1),
    event("summary", values={"train_loss": 3.0}),
    event("failed", type="OSError", message="no route"),
)


def then(*events: Event, step: int = 4) -> RunProgress:
    """The progress of a run whose second attempt, from a checkpoint, has reported these events."""
    return RunProgress.of([*FAILED_AT_5, event("attempt", number=2, step=step), *events])


def test_a_run_has_one_attempt_until_another_begins() -> None:
    assert RunProgress.of(FAILED_AT_5).attempts == 1
    assert then().attempts == 2


def test_an_attempt_begins_at_the_step_of_its_checkpoint() -> None:
    assert RunProgress.of(FAILED_AT_5).step == 5
    assert then().step == 4
    assert then(step=0).step == 0
    assert then(event("step", step=5)).step == 5


def test_the_end_of_an_earlier_attempt_is_forgotten() -> None:
    progress = then()
    assert (progress.failed, progress.refused, progress.summary, progress.phase) == (None, None, {}, "")
    assert not progress.done
    assert not then(event("phase", name="train")).done


def test_what_the_run_learned_stays() -> None:
    progress = then(event("metrics", step=6, values={"loss": 2.0}))
    assert progress.values == {"loss": 2.0, "grad_norm": 1.0, "fp16/loss_scale": 2.0} | {
        "fp16/skipped_steps": 1.0,
        "fp16/overflow": 1.0,
    }
    assert [each.step for each in progress.checkpoints] == [4]
    assert (progress.steps, progress.overflows, progress.accepted) == (8, 1, True)
    assert progress.first_time == FAILED_AT_5[0].time


def test_an_attempt_that_is_refused_ends_the_run_as_refused() -> None:
    progress = then(event("refused", problems=[{"key": "data.path", "value": "x", "reason": "gone"}]))
    assert classify(Evidence(progress, returncode=2)).ending == "refused"


def test_an_attempt_that_finishes_ends_the_run_as_finished_though_one_before_had_failed() -> None:
    finished = then(event("phase", name="done"))
    assert classify(Evidence(finished, returncode=0)).ending == "finished"


def test_an_attempt_that_is_killed_does_not_end_like_the_one_before() -> None:
    assert classify(Evidence(then(event("phase", name="train")))).ending == "terminated"


def test_progress_over_the_files_of_a_run_counts_repeated_steps_once(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run")
    overflow = ("overflow", {"step": 2, "skipped_total": 1})
    write_events(plan, phase("train"), metrics(1, loss=3.0), overflow, metrics(3, loss=2.0))
    began = ("attempt", {"number": 2, "step": 1})
    write_events(plan, began, overflow, ("step", {"step": 3, "of": 4}), metrics(3, loss=9.0), attempt=2)
    progress = RunProgress.of(RunEvents(folder_of(plan)).read_new())
    assert (progress.overflows, progress.loss, progress.step) == (1, 2.0, 3)
