"""One run from its plan to its outcome, without workers: what remains when it ends early."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import edit_manifest, make_checkpoint
from tests.support.plans import begin_attempt, make_plan
from tests.support.recording import metrics, phase, run_of, write_events
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.record.client import open_client
from zpipe.record.record_run import record_run
from zpipe.runfolder.attempt_start import AttemptStart, write_start
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Outcome, read_outcome, write_outcome
from zpipe.runfolder.swap_folder import create_swap_folder
from zpipe.running import runner
from zpipe.running.recording import record_now
from zpipe.running.recover import conclude_if_abandoned

HARDWARE = Hardware(gpus=(), cores=2, memory=1 << 34)


def nvme_plan(tmp_path: Path) -> Plan:
    offload: dict[str, Any] = {"offload.offload_optimizer.device": "nvme", "stage.stage": 3}
    return make_plan(tmp_path / "run", experiment=offload, swap_dir=str(tmp_path / "run" / "swap"))


def unclaimed(plan: Plan) -> Plan:
    """The plan of a folder that was not started yet."""
    for name in ("plan.json", "ds_config.json", "config.yaml"):
        (Path(plan.run_dir) / name).unlink()
    return plan


def test_what_this_machine_lacks_leaves_no_swap_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = unclaimed(nvme_plan(tmp_path))

    def lacking(plan: Plan, say: object) -> list[Problem]:
        create_swap_folder(plan)
        return [Problem("libaio", "not found", "needed")]

    monkeypatch.setattr(runner, "missing_requirements", lacking)
    assert runner.run_plan(plan, HARDWARE).exit_code == 3
    assert not (tmp_path / "run" / "swap").exists()


@pytest.mark.parametrize(
    ("number", "ending", "code"),
    [
        (signal.SIGINT, "interrupted", 130),
        (signal.SIGTERM, "terminated", 143),
        (signal.SIGUSR2, "preempted", 143),
    ],
)
def test_a_signal_before_the_workers_start_is_an_ending(
    number: int, ending: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    plan = unclaimed(nvme_plan(tmp_path))

    def slow(plan: Plan, say: object) -> list[Problem]:
        create_swap_folder(plan)
        os.kill(os.getpid(), number)
        return []

    monkeypatch.setattr(runner, "missing_requirements", slow)
    outcome = runner.run_plan(plan, HARDWARE)
    assert (outcome.ending, outcome.exit_code) == (ending, code)
    assert read_outcome(RunFolder(tmp_path / "run")) == outcome
    assert not (tmp_path / "run" / "swap").exists()
    assert not RunFolder(tmp_path / "run").attempt.disk_reserve.exists()


def failing_choice(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Lets the choice of a checkpoint end like this."""

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(runner, "choose", fail)


def test_an_attempt_that_is_refused_says_so_in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = unclaimed(nvme_plan(tmp_path))
    damaged = Refusal([Problem("resume", "checkpoint-4", "this checkpoint is damaged")])
    failing_choice(monkeypatch, damaged)
    outcome = runner.run_plan(plan, HARDWARE)
    assert (outcome.ending, outcome.exit_code) == ("refused", 2)
    folder = RunFolder(tmp_path / "run")
    written = read_outcome(folder)
    assert written is not None and written.model_dump() == outcome.model_dump()
    assert outcome.problems == damaged.problems
    assert not folder.attempt.disk_reserve.exists()


def attempted(plan: Plan) -> Outcome:
    """Gives the run a first attempt that failed."""
    begin_attempt(Path(plan.run_dir))
    failed = Outcome(ending="failed", reason="no route", run_dir=plan.run_dir)
    write_outcome(failed)
    return failed


def test_an_attempt_that_is_refused_leaves_the_plan_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tmp_path / "run", experiment={"train.max_steps": 4})
    attempted(plan)
    before = RunFolder(tmp_path / "run").plan.read_bytes()
    failing_choice(monkeypatch, Refusal([Problem("resume", "checkpoint-4", "this checkpoint is damaged")]))
    longer = make_plan(tmp_path / "longer", experiment={"train.max_steps": 8})
    outcome = runner.run_plan(longer.model_copy(update={"run_dir": plan.run_dir}), HARDWARE)
    assert outcome.ending == "refused"
    assert RunFolder(tmp_path / "run").attempt.number == 2
    assert RunFolder(tmp_path / "run").plan.read_bytes() == before


def test_a_checkpoint_of_a_shape_that_cannot_go_on_is_refused_without_an_attempt(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"train.max_steps": 4})
    attempted(plan)
    write_start(RunFolder(tmp_path / "run").attempt, AttemptStart(run_id="this-run"))
    edit_manifest(make_checkpoint(tmp_path / "run", 4), stage=0)
    outcome = runner.run_plan(plan, HARDWARE)
    assert outcome.ending == "refused"
    assert outcome.reason is not None
    assert "stage 0" in outcome.reason
    assert RunFolder(tmp_path / "run").attempt.number == 1


def test_a_start_that_comes_second_changes_nothing_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = nvme_plan(tmp_path)
    failed = attempted(plan)

    def another_begins(*arguments: object) -> None:
        begin_attempt(Path(plan.run_dir), 2)
        write_outcome(failed)

    monkeypatch.setattr(runner, "wait_for_workers", another_begins)
    assert runner.run_plan(plan, HARDWARE).ending == "refused"
    assert "another run has started in this folder" in capsys.readouterr().err
    assert read_outcome(RunFolder(tmp_path / "run")) == failed


def test_a_signal_while_workers_of_the_last_attempt_end_leaves_that_attempt_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = nvme_plan(tmp_path)
    failed = attempted(plan)
    create_swap_folder(plan)
    monkeypatch.setattr(runner, "wait_for_workers", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    outcome = runner.run_plan(plan, HARDWARE)
    assert (outcome.ending, outcome.exit_code) == ("interrupted", 130)
    assert read_outcome(RunFolder(tmp_path / "run")) == failed
    assert (tmp_path / "run" / "swap").exists()


def test_an_attempt_that_is_stopped_early_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = nvme_plan(tmp_path)
    attempted(plan)
    failing_choice(monkeypatch, KeyboardInterrupt())
    outcome = runner.run_plan(plan, HARDWARE)
    assert (outcome.ending, outcome.attempts) == ("interrupted", 2)
    assert read_outcome(RunFolder(tmp_path / "run")) == outcome


def test_what_a_kill_after_the_result_left_is_removed_later(tmp_path: Path) -> None:
    plan = nvme_plan(tmp_path)
    write_events(plan, phase("train"))
    create_swap_folder(plan)
    folder = RunFolder(tmp_path / "run")
    folder.attempt.rendezvous.touch()
    outcome = Outcome(ending="finished", run_dir=plan.run_dir)
    write_outcome(outcome)
    conclude_if_abandoned(folder.path)
    assert read_outcome(folder) == outcome
    assert not (tmp_path / "run" / "swap").exists()
    assert folder.attempt.leftovers() == []


def test_a_run_whose_zpipe_was_killed_after_the_training_is_finished_and_recorded(
    tmp_path: Path, empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = shutil.copy(empty_store, tmp_path / "mlflow.db")
    plan = make_plan(tmp_path / "run", experiment={"tracking.uri": f"sqlite:///{store}"})
    begin_attempt(tmp_path / "run")
    summary = ("summary", {"values": {"final_loss": 2.0}})
    write_events(plan, phase("train"), metrics(4, loss=2.0), summary, phase("done"))
    outcome = runner.run_plan(plan, HARDWARE)
    assert (outcome.ending, outcome.exit_code, outcome.record_error) == ("finished", 0, None)
    assert f"this run has finished: {tmp_path / 'run'}" in capsys.readouterr().err
    assert RunFolder(tmp_path / "run").attempt.number == 1
    run = run_of(open_client(f"sqlite:///{store}"), plan)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["summary/final_loss"] == 2.0


def finished_but_not_recorded(plan: Plan) -> RunFolder:
    """A second attempt finished while MLflow was away; it had the first one completely."""
    folder = RunFolder(Path(plan.run_dir))
    begin_attempt(folder.path)
    write_events(plan, phase("train"), metrics(2, loss=3.0))
    assert record_run(folder.path).ok
    begin_attempt(folder.path, 2)
    began = ("attempt", {"number": 2, "step": 2})
    write_events(plan, began, phase("train"), metrics(4, loss=2.0), phase("done"), attempt=2)
    write_outcome(Outcome(ending="finished", run_dir=plan.run_dir, attempts=2, record_error="away"))
    return folder


@pytest.fixture
def recorded_plan(tmp_path: Path, empty_store: Path) -> Plan:
    store = shutil.copy(empty_store, tmp_path / "mlflow.db")
    return make_plan(tmp_path / "run", experiment={"tracking.uri": f"sqlite:///{store}"})


def test_a_finished_run_is_recorded_when_it_is_started_again(recorded_plan: Plan) -> None:
    folder = finished_but_not_recorded(recorded_plan)
    outcome = runner.run_plan(recorded_plan, HARDWARE)
    assert (outcome.exit_code, outcome.record_error) == (0, None)
    assert read_outcome(folder) == outcome


def test_a_finished_run_says_why_it_cannot_be_recorded(
    recorded_plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_but_not_recorded(recorded_plan)
    Path(folder.path.parent / "mlflow.db").write_text("no database")
    outcome = runner.run_plan(recorded_plan, HARDWARE)
    said = capsys.readouterr().err
    assert outcome.exit_code == 6
    assert f"MLflow is incomplete: {outcome.record_error}" in said
    assert f"zpipe record {folder.path}" in said


def test_what_was_recorded_by_hand_is_no_error_of_the_run_anymore(recorded_plan: Plan) -> None:
    folder = finished_but_not_recorded(recorded_plan)
    result = record_now(folder.path)
    outcome = read_outcome(folder)
    assert outcome is not None
    assert (result.ok, outcome.exit_code, outcome.mlflow_run_id) == (True, 0, result.run_id)
    assert runner.run_plan(recorded_plan, HARDWARE) == outcome


def test_an_error_that_a_complete_record_has_outlived_is_forgotten(recorded_plan: Plan) -> None:
    folder = finished_but_not_recorded(recorded_plan)
    assert record_run(folder.path).ok
    Path(folder.path.parent / "mlflow.db").unlink()
    assert runner.run_plan(recorded_plan, HARDWARE).exit_code == 0
