"""A run that goes on in another store, or in one that lost it, is complete there; none is created twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.plans import make_plan
from tests.support.recording import (
    history,
    metrics,
    models_of,
    phase,
    rewind,
    run_of,
    wait_until,
    write_events,
)
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.record.client import open_client
from zpipe.record.record_run import record_run
from zpipe.record.recorder_thread import RecorderThread
from zpipe.record.registry import Registry
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Outcome, write_outcome
from zpipe.running.recording import record_now

CHECKPOINT = ("checkpoint", {"step": 2, "path": "checkpoint-2", "bytes": 10})


@pytest.fixture
def old(empty_store: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'old.db')}"


@pytest.fixture
def new(empty_store: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'new.db')}"


@pytest.fixture
def plan(tmp_path: Path, old: str) -> Plan:
    """A run with one attempt, which the old store has completely."""
    plan = make_plan(tmp_path / "run", experiment={"tracking.uri": old})
    write_events(plan, phase("model"), metrics(1, loss=4.0), metrics(2, loss=3.0), CHECKPOINT)
    assert record_run(Path(plan.run_dir)).ok
    return plan


def go_on(plan: Plan) -> None:
    began = ("attempt", {"number": 2, "step": 2})
    write_events(plan, began, phase("train"), metrics(3, loss=2.0), phase("done"), attempt=2)


def changed(plan: Plan, experiment: dict[str, Any]) -> Plan:
    return make_plan(Path(plan.run_dir), experiment=experiment)


def state_of(plan: Plan) -> dict[str, Any]:
    return dict(json.loads(RunFolder(Path(plan.run_dir)).record_state.read_text()))


def curve(plan: Plan, uri: str) -> list[tuple[int, float]]:
    client = open_client(uri)
    return history(client, run_of(client, plan), "loss")


def lose(uri: str, empty_store: Path) -> None:
    """As if the user had removed the store, and zpipe created it again."""
    shutil.copy(empty_store, uri.removeprefix("sqlite:///"))


WHOLE = [(1, 4.0), (2, 3.0), (3, 2.0)]


def test_a_run_that_goes_on_in_another_store_is_complete_there(plan: Plan, old: str, new: str) -> None:
    before = state_of(plan)["run_id"]
    go_on(plan)
    result = RecorderThread(plan, uri=new, poll_seconds=0.05).finish("FINISHED")
    assert result.ok
    assert result.run_id != before
    assert f"replaces run {before} in {old}" in (result.note or "")
    assert curve(plan, new) == WHOLE
    client = open_client(new)
    run = run_of(client, plan)
    assert (run.info.status, run.data.tags["zpipe.attempts"]) == ("FINISHED", "2")
    assert set(models_of(client, run)) == {"checkpoint-2"}
    assert (state_of(plan)["uri"], state_of(plan)["run_id"]) == (new, result.run_id)
    assert run_of(open_client(old), plan).info.run_id == before


def test_a_complete_run_is_recorded_in_the_store_that_was_asked_for(plan: Plan, new: str) -> None:
    result = record_now(Path(plan.run_dir), uri=new)
    assert result.ok
    assert run_of(open_client(new), plan).info.run_id == result.run_id
    again = record_now(Path(plan.run_dir), uri=new)
    assert (again.run_id, again.note) == (result.run_id, None)
    assert record_now(Path(plan.run_dir)).run_id == result.run_id


def test_back_in_its_first_store_a_run_is_the_one_it_was_there(plan: Plan, old: str, new: str) -> None:
    before = state_of(plan)["run_id"]
    assert record_run(Path(plan.run_dir), uri=new).ok
    go_on(plan)
    longer = changed(plan, {"tracking.uri": old, "train.max_steps": 6})
    result = RecorderThread(longer, uri=old, poll_seconds=0.05).finish("FINISHED")
    assert (result.ok, result.run_id, result.note) == (True, before, None)
    assert curve(plan, old) == WHOLE


def test_an_older_run_of_a_folder_with_the_same_name_is_not_taken(
    tmp_path: Path, plan: Plan, old: str, new: str
) -> None:
    assert record_run(Path(plan.run_dir), uri=new).ok
    older = run_of(open_client(new), plan)
    shutil.rmtree(plan.run_dir)
    plan = make_plan(tmp_path / "run", experiment={"tracking.uri": old})
    write_events(plan, phase("model"), metrics(1, loss=9.0))
    assert record_run(Path(plan.run_dir)).ok
    moved = record_run(Path(plan.run_dir), uri=new)
    assert moved.ok
    assert moved.run_id != older.info.run_id
    assert history(open_client(new), older, "loss") == [(1, 4.0), (2, 3.0)]


def test_a_run_that_the_store_has_lost_is_created_again_with_all_its_attempts(
    plan: Plan, old: str, empty_store: Path
) -> None:
    before = state_of(plan)["run_id"]
    lose(old, empty_store)
    go_on(plan)
    result = RecorderThread(plan, uri=old, poll_seconds=0.05).finish("FINISHED")
    assert result.ok
    assert f"replaces run {before}, which is gone" in (result.note or "")
    assert curve(plan, old) == WHOLE


def test_a_complete_run_that_the_store_has_lost_is_recorded_again(
    plan: Plan, old: str, empty_store: Path
) -> None:
    write_outcome(Outcome(ending="finished", run_dir=plan.run_dir))
    lose(old, empty_store)
    result = record_now(Path(plan.run_dir))
    assert result.ok
    assert "which is gone" in (result.note or "")
    assert curve(plan, old) == WHOLE[:2]


def test_more_events_than_fit_in_a_batch_are_all_sent_again(
    plan: Plan, old: str, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(old, empty_store)
    monkeypatch.setattr("zpipe.record.follower._EVENTS_A_BATCH", 2)
    assert record_now(Path(plan.run_dir)).ok
    assert curve(plan, old) == WHOLE[:2]
    assert run_of(open_client(old), plan).info.status == "KILLED"


def test_a_store_that_does_not_answer_loses_no_run(
    plan: Plan, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of(plan)
    go_on(plan)
    rewind(plan, uri="http://127.0.0.1:9")
    monkeypatch.setattr("zpipe.record.recorder_thread._LAST_CHANCE", 0.5)
    assert not record_run(Path(plan.run_dir)).ok
    assert not RecorderThread(plan, uri="http://127.0.0.1:9", poll_seconds=0.05).finish("FINISHED", 1.0).ok
    assert state_of(plan)["run_id"] == before["run_id"]


def test_a_new_store_that_does_not_answer_leaves_the_way_back(plan: Plan, old: str) -> None:
    before = state_of(plan)["run_id"]
    go_on(plan)
    assert not record_run(Path(plan.run_dir), uri="http://127.0.0.1:9").ok
    assert not RecorderThread(plan, uri="http://127.0.0.1:9", poll_seconds=0.05).finish("FINISHED", 1.0).ok
    wait_until(lambda: record_run(Path(plan.run_dir), uri=old).run_id == before)
    assert curve(plan, old) == WHOLE


def test_a_run_that_the_user_has_deleted_is_neither_created_again_nor_forgotten(plan: Plan, old: str) -> None:
    client, run_id = open_client(old), state_of(plan)["run_id"]
    client.delete_run(run_id)
    go_on(plan)
    result = record_run(Path(plan.run_dir))
    assert not result.ok
    assert "deleted in MLflow" in (result.error or "")
    assert f"mlflow runs restore --run-id {run_id}" in (result.error or "")
    assert run_of(client, plan) is None
    client.restore_run(run_id)
    assert record_run(Path(plan.run_dir)).run_id == run_id
    assert curve(plan, old) == WHOLE


def test_a_run_of_a_deleted_experiment_is_restored_with_it(plan: Plan, old: str) -> None:
    client = open_client(old)
    experiment_id = run_of(client, plan).info.experiment_id
    client.delete_experiment(experiment_id)
    go_on(plan)
    assert f"mlflow experiments restore -x {experiment_id}" in (record_run(Path(plan.run_dir)).error or "")
    client.restore_experiment(experiment_id)
    assert record_run(Path(plan.run_dir)).ok


def test_a_run_stays_in_its_experiment_with_all_its_models(plan: Plan, old: str) -> None:
    write_events(plan, ("attempt", {"number": 2, "step": 2}), phase("done"), attempt=2)
    write_events(plan, ("checkpoint", {"step": 4, "path": "checkpoint-4", "bytes": 5}), attempt=2)
    other = changed(plan, {"tracking.uri": old, "tracking.experiment": "other"})
    result = RecorderThread(other, poll_seconds=0.05).finish("FINISHED")
    assert result.ok
    client = open_client(old)
    assert set(models_of(client, run_of(client, plan))) == {"checkpoint-2", "checkpoint-4"}


def test_a_password_in_the_uri_makes_no_other_store(plan: Plan) -> None:
    rewind(plan, uri="http://me:***@127.0.0.1:9")
    thread = RecorderThread(plan, uri="http://me:secret@127.0.0.1:9")
    assert thread.run_id == state_of(plan)["run_id"]


def test_a_model_is_not_registered_in_a_store_that_does_not_have_the_run(
    plan: Plan, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(Path(plan.run_dir))
    with pytest.raises(Refusal, match="does not have this run") as refusal:
        Registry.of(folder, "name", new)
    assert f"zpipe record {folder.path} --uri {new}" in str(refusal.value)
    assert record_run(folder.path, uri=new).ok
    assert Registry.of(folder, "name", new).run_id == state_of(plan)["run_id"]
