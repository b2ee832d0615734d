"""Recording of a run: written events in, a real sqlite store out."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.plans import make_plan
from tests.support.recording import (
    SECONDS,
    artifact,
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
from zpipe.record.limits import safe_name
from zpipe.record.record_run import record_run
from zpipe.record.recorder_thread import RecorderThread
from zpipe.record.state import StateFile
from zpipe.runfolder.outcome import Outcome, write_outcome
from zpipe.runfolder.plan_file import folder_of


@pytest.fixture(scope="module")
def recorded(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """A run that was followed while it wrote its events, and then finished."""
    changes = {"tracking.tags": {"team": "blue"}, "tracking.run_name": "mine", "tracking.experiment": "exp"}
    plan = make_plan(tmp_path_factory.mktemp("run"), experiment=changes)
    thread = RecorderThread(plan, base=base, poll_seconds=0.05)
    thread.start()
    write_events(plan, phase("start"), ("operator", {"name": "cpu_adam", "state": "built", "seconds": 1}))
    time.sleep(0.2)
    assert thread.run_id is None
    write_events(plan, phase("model"), phase("train"), metrics(1, loss=4.0, grad_norm=math.inf))
    wait_until(lambda: json.loads((Path(plan.run_dir) / "record.json").read_text())["offset"] > 0)
    assert record_run(Path(plan.run_dir), base).error == "another process is recording this run"
    (Path(plan.run_dir) / "checkpoint-2").mkdir()
    write_events(
        plan,
        metrics(2, **{"loss": math.nan, "a(b)": 1.0, "fp16/overflow": 1.0}),
        ("overflow", {"step": 2, "scale_before": 4.0, "scale_after": 2.0, "skipped_total": 1}),
        ("checkpoint", {"step": 2, "path": "checkpoint-2", "bytes": 10}),
        metrics(3, loss=-math.inf),
        ("nonfinite", {"step": 3, "loss": -math.inf, "grad_norm": None}),
        ("checkpoint", {"step": 3, "path": "checkpoint-3", "bytes": 10}),
        ("model", {"step": 3, "path": "model", "bytes": 5}),
        ("summary", {"values": {"loss": 3.5}}),
        phase("done"),
    )
    (Path(plan.run_dir) / "extra.txt").write_text("extra")
    result = thread.finish(
        "FINISHED",
        SECONDS,
        files=[Path(plan.run_dir) / name for name in ("extra.txt", "absent.txt")],
        tags={"zpipe.ending": "finished"},
    )
    assert (result.ok, result.error) == (True, None)
    assert result.run_id == thread.run_id
    yield plan


def test_the_run_and_its_tags(recorded: Plan, client: Any) -> None:
    run = run_of(client, recorded)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    assert run.info.end_time >= run.info.start_time
    tags = run.data.tags
    assert tags["zpipe.launcher"] == "torchrun"
    assert tags["team"] == "blue"
    assert tags["zpipe.ending"] == "finished"
    assert tags["zpipe.command"] == "zpipe stage=2 train.max_steps=4"
    assert "zpipe.version" in tags
    assert client.get_experiment(run.info.experiment_id).name == "exp"


def test_parameters_are_the_compared_settings(recorded: Plan, client: Any) -> None:
    params = run_of(client, recorded).data.params
    assert params["model"] == "tiny"
    assert (params["stage"], params["world_size"], params["max_steps"]) == ("2", "1", "4")
    assert params["reduce_bucket_size"] == "500000000"
    assert len(params) <= 25


def test_non_finite_numbers_are_kept(recorded: Plan, client: Any) -> None:
    run = run_of(client, recorded)
    losses = history(client, run, "loss")
    assert [step for step, _ in losses] == [1, 2, 3]
    assert losses[0][1] == 4.0
    assert math.isnan(losses[1][1])
    assert losses[2][1] == -1.7976931348623157e308  # MLflow's stand-in for -inf
    assert history(client, run, "grad_norm") == [(1, 1.7976931348623157e308)]
    assert history(client, run, safe_name("a(b)")) == [(2, 1.0)]
    assert history(client, run, "summary/loss") == [(0, 3.5)]


def test_artifacts(recorded: Plan, client: Any) -> None:
    run = run_of(client, recorded)
    assert json.loads(artifact(client, run, "plan.json")) == recorded.model_dump(mode="json")
    assert json.loads(artifact(client, run, "ds_config.json")) == recorded.ds_config
    assert yaml.safe_load(artifact(client, run, "config.yaml"))["stage"]["stage"] == 2
    assert artifact(client, run, "events.jsonl") == folder_of(recorded).attempt.events.read_text()
    assert artifact(client, run, "extra.txt") == "extra"
    table = json.loads(artifact(client, run, "precision_events.json"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["step"], row["event"], row["skipped_total"]) for row in rows] == [
        (2, "step skipped", 1),
        (3, "loss not finite", None),
    ]
    assert (rows[0]["scale_before"], rows[0]["scale_after"], rows[1]["loss"]) == (4.0, 2.0, "-inf")
    tagged = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert tagged == [{"path": "precision_events.json", "type": "table"}]


def test_checkpoints_are_linked_not_uploaded(recorded: Plan, client: Any, base: Path) -> None:
    run = run_of(client, recorded)
    models = models_of(client, run)
    assert set(models) == {"checkpoint-2", "checkpoint-3", "model"}
    checkpoint = models["checkpoint-2"]
    assert checkpoint.status.value == "READY"
    assert checkpoint.tags["zpipe.path"] == str(Path(recorded.run_dir) / "checkpoint-2")
    assert "zpipe.removed" not in checkpoint.tags
    assert models["checkpoint-3"].tags["zpipe.removed"] == "true"
    outputs = {output.model_id: output.step for output in run.outputs.model_outputs}
    assert outputs == {model.model_id: int(model.tags["zpipe.step"]) for model in models.values()}
    stored = [path.name for path in Path(checkpoint.artifact_location).rglob("*") if path.is_file()]
    assert stored == ["MLmodel"]


def test_recording_twice_changes_nothing(recorded: Plan, client: Any, base: Path) -> None:
    before = run_of(client, recorded)
    rewind(recorded, offset=0, closed=False, described=False)
    again = record_run(Path(recorded.run_dir), base)
    after = run_of(client, recorded)
    assert (again.ok, again.run_id) == (True, before.info.run_id)
    assert after.data.params == before.data.params
    assert len(history(client, after, "loss")) == 3
    assert set(models_of(client, after)) == {"checkpoint-2", "checkpoint-3", "model"}
    assert len(after.outputs.model_outputs) == 3
    assert after.info.status == "FINISHED"


def test_run_with_an_unstored_id_is_found_again(
    tmp_path: Path, client: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"))
    update = StateFile.update

    def die_before_noting_the_run(state: StateFile, **changes: Any) -> None:
        if "run_id" in changes:
            raise RuntimeError("killed")
        update(state, **changes)

    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "update", die_before_noting_the_run)
        assert record_run(Path(plan.run_dir), base).error == "killed"
    run = run_of(client, plan)
    assert record_run(Path(plan.run_dir), base).run_id == run.info.run_id
    assert run_of(client, plan).info.status == "KILLED"


def test_a_later_attempt_goes_on_in_the_same_run(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), *(metrics(step, loss=float(step)) for step in (1, 2, 3)))
    first = record_run(Path(plan.run_dir), base)
    assert run_of(client, plan).info.status == "KILLED"
    again = [metrics(step, loss=float(-step)) for step in (2, 3, 4)]
    began = ("attempt", {"number": 2, "step": 1})
    write_events(plan, began, phase("train"), *again, phase("done"), attempt=2)
    rewind(plan, status=None)
    second = record_run(Path(plan.run_dir), base)
    run = run_of(client, plan)
    assert (second.ok, second.run_id) == (True, first.run_id)
    assert (run.info.status, run.data.tags["zpipe.attempts"]) == ("FINISHED", "2")
    assert history(client, run, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, -4.0)]
    for number, name in ((1, "events.jsonl"), (2, "attempt-2/events.jsonl")):
        written = folder_of(plan).numbered(number).events.read_text()
        assert artifact(client, run, name) == written


def test_a_later_attempt_leaves_no_trace_of_an_earlier_ending(
    tmp_path: Path, client: Any, base: Path
) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), ("failed", {"type": "OSError", "message": "no route"}))
    failed = Outcome(ending="failed", reason="rank 0: no route", failed_rank=0, run_dir=plan.run_dir)
    write_outcome(failed)
    assert record_run(Path(plan.run_dir), base).ok
    endings = {"zpipe.ending", "zpipe.exit_code", "zpipe.reason", "zpipe.failed_rank", "zpipe.error"}
    assert endings <= run_of(client, plan).data.tags.keys()
    write_events(plan, ("attempt", {"number": 2, "step": 0}), phase("done"), attempt=2)
    write_outcome(Outcome(ending="finished", run_dir=plan.run_dir))
    assert record_run(Path(plan.run_dir), base).ok
    tags = run_of(client, plan).data.tags
    assert {name: tags[name] for name in endings if name in tags} == {
        "zpipe.ending": "finished",
        "zpipe.exit_code": "0",
    }


def test_every_call_to_mlflow_is_synchronous(
    tmp_path: Path, client: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking.abstract_store import AbstractStore

    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    monkeypatch.delattr(AbstractStore, "log_batch_async")
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0))
    assert record_run(Path(plan.run_dir), base).ok
    assert run_of(client, plan).data.metrics == {"loss": 4.0}


def test_closed_run_needs_no_store(recorded: Plan, base: Path) -> None:
    rewind(recorded, uri="sqlite:////nowhere/mlflow.db")
    assert record_run(Path(recorded.run_dir), base).ok
