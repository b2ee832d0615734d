"""An attempt begins when its turn has come, and touches nothing of the attempts before it."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.attempts import begin_attempt, contents, end_attempt
from tests.support.checkpoints import make_checkpoint
from tests.support.plans import make_plan
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import outcome_of
from zpipe.running import runner
from zpipe.running.start import start_of

HARDWARE = Hardware(gpus=(), cores=2, memory=1 << 34)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """That of a run with a failed attempt."""
    plan = make_plan(tmp_path / "run")
    end_attempt(begin_attempt(tmp_path / "run"), "failed", reason="rank 0: no such thing")
    return plan


def refuse() -> None:
    raise Refusal([Problem("hydra.run.dir", "run", "workers of an earlier attempt are still running")])


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("happen", "code"), [(refuse, 2), (interrupt, 130)])
def test_attempt_that_cannot_begin_leaves_the_result_of_the_one_before(
    happen: Callable[[], None], code: int, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "wait_for_workers", lambda run_dir, say: happen())
    before = contents(Path(plan.run_dir))
    assert runner.run_plan(plan, HARDWARE).exit_code == code
    assert contents(Path(plan.run_dir)) == before
    assert len(RunFolder(Path(plan.run_dir)).attempts) == 1


def test_attempt_that_another_process_began_keeps_its_result(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(plan.run_dir)

    def meanwhile(run_dir: Path, say: object) -> None:
        end_attempt(begin_attempt(run), "finished")

    monkeypatch.setattr(runner, "wait_for_workers", meanwhile)
    assert runner.run_plan(plan, HARDWARE).ending == "refused"
    outcome = outcome_of(RunFolder(run).numbered(2))
    assert outcome is not None
    assert outcome.ending == "finished"


def test_result_counts_the_attempts(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "missing_requirements", lambda plan, say: [Problem("libaio", "", "needed")])
    assert runner.run_plan(plan, HARDWARE).attempts == 2
    monkeypatch.setattr(runner, "missing_requirements", lambda plan, say: interrupt())
    assert runner.run_plan(plan, HARDWARE).attempts == 3
    endings = [outcome_of(attempt) for attempt in RunFolder(Path(plan.run_dir)).attempts]
    assert [each.ending for each in endings if each] == ["failed", "environment", "interrupted"]


def test_checkpoint_of_another_run_is_refused_without_an_attempt(plan: Plan, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "run", 20, "that-run")
    assert runner.run_plan(plan, HARDWARE).ending == "refused"
    endings = [outcome_of(attempt) for attempt in RunFolder(tmp_path / "run").attempts]
    assert [each.ending for each in endings if each] == ["failed"]


def test_run_that_was_killed_before_it_wrote_anything_can_be_started_again(
    plan: Plan, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "new")
    folder.begin(1)
    again = plan.model_copy(update={"run_dir": str(folder.path)})
    assert start_of(again).attempt == 2
    (folder.numbered(1).path / "thesis.txt").write_text("years")
    with pytest.raises(Refusal):
        start_of(again)


def test_looking_for_a_supervisor_does_not_keep_a_run_from_having_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    looks, ends = threading.Event(), threading.Event()

    def look() -> None:
        with folder.supervision():
            looks.set()
            ends.wait(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    looks.wait()
    with folder.supervision(patience=5.0) as is_ours:
        assert is_ours
    thread.join()


def test_asking_for_a_supervisor_writes_nothing(tmp_path: Path) -> None:
    assert not RunFolder(tmp_path).is_supervised
    assert list(tmp_path.iterdir()) == []
    with RunFolder(tmp_path).supervision():
        assert RunFolder(tmp_path).is_supervised
    assert not RunFolder(tmp_path).is_supervised
