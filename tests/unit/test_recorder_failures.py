"""Recording when something is damaged, slow, refused or away."""

import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from filelock import FileLock

from tests.support.plans import make_plan
from tests.support.recording import (
    SECONDS,
    artifact,
    history,
    metrics,
    phase,
    rewind,
    run_of,
    wait_until,
    write_events,
)
from zpipe.record.artifacts import require_stored
from zpipe.record.client import open_client
from zpipe.record.record_run import record_run
from zpipe.record.recorder_thread import RecorderThread
from zpipe.record.store import default_uri
from zpipe.record.sweeps import SweepFigures, SweepRun
from zpipe.runfolder.plan_file import folder_of, read_plan

CHECKPOINT = ("checkpoint", {"step": 1, "path": "checkpoint-1", "bytes": 5})


def test_incomplete_last_line_is_read_when_complete(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0), metrics(2, loss=3.0))
    events = folder_of(plan).attempt.events
    whole = events.read_bytes()
    events.write_bytes(whole[:-9])
    assert record_run(Path(plan.run_dir), base).ok
    run = run_of(client, plan)
    assert history(client, run, "loss") == [(1, 4.0)]
    assert run.info.status == "KILLED"
    events.write_bytes(whole)
    write_events(plan, phase("done"))
    rewind(plan, status=None)
    assert record_run(Path(plan.run_dir), base).ok
    run = run_of(client, plan)
    assert history(client, run, "loss") == [(1, 4.0), (2, 3.0)]
    assert run.info.status == "FINISHED"


def test_damaged_line_loses_only_itself(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0))
    with folder_of(plan).attempt.events.open("ab") as file:
        file.write(b'{"event": "met\x00\xff\n[1]\n\n')
    write_events(plan, metrics(2, loss=3.0))
    assert record_run(Path(plan.run_dir), base).ok
    assert len(history(client, run_of(client, plan), "loss")) == 2


def test_refused_run_is_not_recorded(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run")
    thread = RecorderThread(plan, base=tmp_path, poll_seconds=0.05)
    thread.start()
    write_events(plan, phase("start"), ("refused", {"problems": []}))
    result = thread.finish(None, SECONDS)
    assert (result.ok, result.run_id) == (True, None)
    assert record_run(Path(plan.run_dir), tmp_path).ok
    assert not (tmp_path / "outputs").exists()


def test_refusal_after_the_start_closes_the_run(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), ("refused", {"problems": []}))
    thread = RecorderThread(plan, base=base, poll_seconds=0.05)
    assert thread.finish(None, SECONDS).ok
    assert run_of(client, plan).info.status == "FAILED"


def test_early_failure_is_recorded(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    thread = RecorderThread(plan, base=base, poll_seconds=0.05)
    thread.start()
    write_events(plan, phase("start"), ("failed", {"type": "OSError", "message": "disk full"}))
    assert thread.finish("FAILED", SECONDS).ok
    run = run_of(client, plan)
    assert run.info.status == "FAILED"
    assert run.data.tags["zpipe.error"] == "OSError: disk full"


def test_many_points_are_sent_in_batches(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    events = [metrics(step, **{f"m{index}": float(step) for index in range(50)}) for step in range(60)]
    write_events(plan, phase("model"), *events)
    assert record_run(Path(plan.run_dir), base).ok
    run = run_of(client, plan)
    assert len(run.data.metrics) == 50
    assert len(history(client, run, "m49")) == 60


def test_passwords_are_not_recorded(tmp_path: Path, client: Any, base: Path) -> None:
    uri = "postgresql://me:s3cr3t@host/db"
    plan = make_plan(
        tmp_path / "run", experiment={"tracking.uri": uri}, command=[f"tracking.uri={uri}", "stage=2"]
    )
    write_events(plan, phase("model"), ("failed", {"type": "E", "message": f"cannot reach {uri}"}))
    result = RecorderThread(plan, uri=default_uri(base), base=base).finish("FAILED", SECONDS)
    run = run_of(client, plan)
    assert result.ok
    kept = [str(run.data.tags), str(run.data.params), (Path(plan.run_dir) / "record.json").read_text()]
    kept += [artifact(client, run, name) for name in ("plan.json", "config.yaml")]
    assert not any("s3cr3t" in text for text in kept)
    assert "me:***@host" in run.data.tags["zpipe.command"]


def test_dead_server_blocks_nothing(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"tracking.uri": "http://me:s3cr3t@127.0.0.1:9"})
    thread = RecorderThread(plan, base=tmp_path, poll_seconds=0.05)
    thread.start()
    write_events(plan, phase("model"), metrics(1, loss=4.0))
    wait_until(lambda: thread.error)
    began = time.monotonic()
    result = thread.finish("FINISHED", timeout=0.5)
    assert time.monotonic() - began < 5
    assert not result.ok
    assert result.error is not None
    assert "s3cr3t" not in result.error
    assert json.loads((Path(plan.run_dir) / "record.json").read_text())["status"] == "FINISHED"


@pytest.mark.parametrize(("signals", "seconds"), [(1, 0.5), (2, 0.0)])
def test_a_signal_shortens_the_wait_and_a_second_ends_it(
    signals: int, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zpipe.record.recorder_thread._LAST_CHANCE", 0.5)
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"))
    (tmp_path / "outputs").mkdir()
    thread = RecorderThread(plan, base=tmp_path, poll_seconds=0.05)
    with FileLock(tmp_path / "outputs" / "mlflow.db.lock"):
        began = time.monotonic()
        result = thread.finish("FINISHED", SECONDS, signals=lambda: signals)
        assert seconds <= time.monotonic() - began < seconds + 5
    assert result.error == "a signal ended the wait for MLflow"


def test_late_events_are_recorded_by_record_run(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0))
    thread = RecorderThread(plan, base=tmp_path, poll_seconds=0.05)
    with FileLock(tmp_path / "outputs" / "mlflow.db.lock"):
        result = thread.finish("FINISHED", timeout=0.5)
        assert (result.ok, result.run_id) == (False, None)
    wait_until(lambda: record_run(Path(plan.run_dir), tmp_path).ok)
    run = run_of(open_client(default_uri(tmp_path)), plan)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 4.0})


def test_unusable_store_is_a_lasting_error(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"tracking.uri": "./mlruns"})
    write_events(plan, phase("model"))
    result = RecorderThread(plan, base=tmp_path).finish("FINISHED", SECONDS)
    assert not result.ok
    assert "sqlite:///" in (result.error or "")


def test_disabled_recorder_does_nothing(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"tracking.enabled": False})
    thread = RecorderThread(plan, base=tmp_path)
    thread.start()
    assert thread.finish("FINISHED").ok
    assert not (Path(plan.run_dir) / "record.json").exists()


def test_runs_of_a_sweep_have_their_parent(tmp_path: Path, client: Any, base: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    sweep = SweepRun(default_uri(base), "sweeps", "sweep", tmp_path, ["-m", "stage=2,3"], base)
    parent = sweep.open()
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"))
    assert RecorderThread(plan, None, parent, base).finish("FINISHED", SECONDS).ok
    assert sweep.close({}, SweepFigures({"sweep/points": 1.0}, {}, {}), [report], "FINISHED") == parent
    assert run_of(client, plan).data.tags["mlflow.parentRunId"] == parent
    assert client.get_run(parent).info.status == "FINISHED"
    assert [each.path for each in client.list_artifacts(parent)] == ["report.json"]


def test_plans_of_the_tests_can_be_read_back(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"stage.stage": 3}, operators=["cpu_adam"])
    assert read_plan(Path(plan.run_dir)) == plan
    assert plan.ds_config["zero_optimization"]["stage"] == 3


def test_a_server_without_models_gets_everything_else(
    tmp_path: Path, client: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of MLflow 2 answers 404 to everything about models."""
    asked = refuse_models(monkeypatch)
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0), CHECKPOINT, metrics(2, loss=3.0), CHECKPOINT)
    result = RecorderThread(plan, base=base, poll_seconds=0.05).finish("FINISHED", SECONDS)
    run = run_of(client, plan)
    assert result.ok
    assert "no models" in (result.note or "")
    assert len(asked) == 1
    assert (run.info.status, len(history(client, run, "loss"))) == ("FINISHED", 2)
    assert "checkpoint-1" in artifact(client, run, "events.jsonl")


@pytest.mark.parametrize("error", [PermissionError("denied"), RuntimeError("no credentials")])
def test_without_artifacts_metrics_and_ending_arrive(
    error: Exception, tmp_path: Path, client: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0))
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_text", Mock(side_effect=error))
        result = RecorderThread(plan, base=base, poll_seconds=0.05).finish("FINISHED", SECONDS)
    run = run_of(client, plan)
    assert (result.ok, result.error) == (False, str(error))
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 4.0})
    assert record_run(Path(plan.run_dir), base).ok
    assert artifact(client, run, "plan.json")


def test_an_artifact_that_a_proxy_swallowed_is_missed(
    tmp_path: Path, client: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login page with status 200 answers the upload."""
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"))
    assert record_run(Path(plan.run_dir), base).ok
    run_id = run_of(client, plan).info.run_id
    monkeypatch.setattr("zpipe.record.artifacts._THROUGH_A_SERVER", ("", "/"))
    require_stored(client, run_id, ["plan.json", "events.jsonl"])
    with pytest.raises(OSError, match="did not store them: lost"):
        require_stored(client, run_id, ["plan.json", "lost.json"])


def refuse_models(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets every call about models fail as with MLflow 2; returns the calls."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

    asked: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        asked.append("")
        raise MlflowException("404", error_code=ENDPOINT_NOT_FOUND)

    for name in ("search_logged_models", "create_logged_model", "log_outputs", "set_logged_model_tags"):
        monkeypatch.setattr(MlflowClient, name, refuse)
    return asked
