"""Recording: written events in, a real sqlite store out."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from tests.support.events import EventWriter
from tests.support.plans import make_plan
from tests.support.store import put_store
from zpipe.plan.plan import Plan
from zpipe.record.client import open_client
from zpipe.record.facts import PARENT_ENV
from zpipe.record.limits import safe_name
from zpipe.record.record_run import record_run
from zpipe.record.recorder_thread import RecorderThread
from zpipe.record.state import StateFile
from zpipe.record.store import default_uri
from zpipe.record.sweeps import SweepRun
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.plan_file import read_plan

SECONDS = 60.0


@pytest.fixture(scope="module")
def base(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that somebody works in, with a store."""
    return put_store(empty_store, tmp_path_factory.mktemp("work"))


@pytest.fixture
def client(base: Path) -> Any:
    return open_client(default_uri(base))


def write_events(plan: Plan, *events: tuple[str, dict[str, Any]]) -> None:
    writer = EventWriter(Path(plan.run_dir))
    for kind, fields in events:
        writer.write(kind, **fields)
    writer.close()


def metrics(step: int, **values: float) -> tuple[str, dict[str, Any]]:
    return "metrics", {"step": step, "values": values}


def phase(name: str) -> tuple[str, dict[str, Any]]:
    return "phase", {"name": name, "detail": ""}


def run_of(client: Any, plan: Plan) -> Any:
    """The only run of this plan's folder, or None."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, f'tags.`zpipe.run_dir` = "{plan.run_dir}"')
    assert len(runs) <= 1
    return runs[0] if runs else None


def history(client: Any, run: Any, key: str) -> list[tuple[int, float]]:
    points = client.get_metric_history(run.info.run_id, key)
    return sorted((point.step, point.value) for point in points)


def models_of(client: Any, run: Any) -> dict[str, Any]:
    found = client.search_logged_models([run.info.experiment_id])
    mine = [model for model in found if model.source_run_id == run.info.run_id]
    assert len({model.name for model in mine}) == len(mine)
    return {model.name: model for model in mine}


def artifact(client: Any, run: Any, name: str) -> str:
    return Path(client.download_artifacts(run.info.run_id, name)).read_text()


def rewind(plan: Plan, **state: Any) -> None:
    """Makes record.json say less than was recorded, as a crash may leave it."""
    file = Path(plan.run_dir) / "record.json"
    write_json(file, {**json.loads(file.read_text()), **state})


def wait_until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
    assert tags["mlflow.source.name"] == "zpipe stage=2 train.max_steps=4"
    assert "zpipe.version" in tags
    assert client.get_experiment(run.info.experiment_id).name == "exp"


def test_parameters_are_few(recorded: Plan, client: Any) -> None:
    params = run_of(client, recorded).data.params
    assert params["model"] == "tiny"
    assert (params["stage"], params["world_size"], params["max_steps"]) == ("2", "1", "4")
    assert params["reduce_bucket_size"] == "500000000"
    assert len(params) <= 25


def test_numbers_that_are_not_finite_are_kept(recorded: Plan, client: Any) -> None:
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
    assert artifact(client, run, "events.jsonl") == (Path(recorded.run_dir) / "events.jsonl").read_text()
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


def test_checkpoints_are_models_of_the_run_and_not_uploaded(recorded: Plan, client: Any, base: Path) -> None:
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


def test_recording_twice_leaves_the_same(recorded: Plan, client: Any, base: Path) -> None:
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


def test_a_run_whose_id_was_not_noted_is_found_again(
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


def test_mlflow_is_never_asked_to_log_later(
    tmp_path: Path, client: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking.abstract_store import AbstractStore

    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    monkeypatch.delattr(AbstractStore, "log_batch_async")
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0))
    assert record_run(Path(plan.run_dir), base).ok
    assert run_of(client, plan).data.metrics == {"loss": 4.0}


def test_a_closed_run_needs_no_store(recorded: Plan, base: Path) -> None:
    rewind(recorded, uri="sqlite:////nowhere/mlflow.db")
    assert record_run(Path(recorded.run_dir), base).ok


def test_a_torn_last_line_waits_for_its_end(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0), metrics(2, loss=3.0))
    events = Path(plan.run_dir) / "events.jsonl"
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


def test_a_damaged_line_costs_only_itself(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=4.0))
    with (Path(plan.run_dir) / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "met\x00\xff\n[1]\n\n')
    write_events(plan, metrics(2, loss=3.0))
    assert record_run(Path(plan.run_dir), base).ok
    assert len(history(client, run_of(client, plan), "loss")) == 2


def test_a_refused_run_leaves_nothing_in_mlflow(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run")
    thread = RecorderThread(plan, base=tmp_path, poll_seconds=0.05)
    thread.start()
    write_events(plan, phase("start"), ("refused", {"problems": []}))
    result = thread.finish(None, SECONDS)
    assert (result.ok, result.run_id) == (True, None)
    assert record_run(Path(plan.run_dir), tmp_path).ok
    assert not (tmp_path / "outputs").exists()


def test_a_refusal_by_the_running_worker_closes_the_run(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), ("refused", {"problems": []}))
    thread = RecorderThread(plan, base=base, poll_seconds=0.05)
    assert thread.finish(None, SECONDS).ok
    assert run_of(client, plan).info.status == "FAILED"


def test_an_early_failure_is_recorded_as_failed(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    thread = RecorderThread(plan, base=base, poll_seconds=0.05)
    thread.start()
    write_events(plan, phase("start"), ("failed", {"type": "OSError", "message": "disk full"}))
    assert thread.finish("FAILED", SECONDS).ok
    run = run_of(client, plan)
    assert run.info.status == "FAILED"
    assert run.data.tags["zpipe.error"] == "OSError: disk full"


def test_many_points_come_in_several_batches(tmp_path: Path, client: Any, base: Path) -> None:
    plan = make_plan(tmp_path / "run")
    events = [metrics(step, **{f"m{index}": float(step) for index in range(50)}) for step in range(60)]
    write_events(plan, phase("model"), *events)
    assert record_run(Path(plan.run_dir), base).ok
    run = run_of(client, plan)
    assert len(run.data.metrics) == 50
    assert len(history(client, run, "m49")) == 60


def test_passwords_reach_neither_tags_nor_artifacts_nor_the_state(
    tmp_path: Path, client: Any, base: Path
) -> None:
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
    assert "me:***@host" in run.data.tags["mlflow.source.name"]


def test_a_dead_server_holds_nothing_up(tmp_path: Path) -> None:
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


def test_what_could_not_be_recorded_in_time_is_recorded_later(tmp_path: Path) -> None:
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


def test_a_store_that_cannot_be_used_is_said_once_and_lastingly(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"tracking.uri": "./mlruns"})
    write_events(plan, phase("model"))
    result = RecorderThread(plan, base=tmp_path).finish("FINISHED", SECONDS)
    assert not result.ok
    assert "sqlite:///" in (result.error or "")


def test_a_switched_off_recorder_does_nothing(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"tracking.enabled": False})
    thread = RecorderThread(plan, base=tmp_path)
    thread.start()
    assert thread.finish("FINISHED").ok
    assert not (Path(plan.run_dir) / "record.json").exists()


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_runs_of_a_sweep_are_below_their_parent(
    way: str, tmp_path: Path, client: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    sweep = SweepRun(default_uri(base), "sweeps", "sweep", tmp_path, ["-m", "stage=2,3"], base)
    parent = sweep.open()
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"))
    if way == "environment":
        monkeypatch.setenv(PARENT_ENV, parent)
    given = parent if way == "argument" else None
    assert RecorderThread(plan, None, given, base).finish("FINISHED", SECONDS).ok
    assert sweep.close({}, {"sweep/points": 1.0}, [report], "FINISHED") == parent
    assert run_of(client, plan).data.tags["mlflow.parentRunId"] == parent
    assert client.get_run(parent).info.status == "FINISHED"
    assert [each.path for each in client.list_artifacts(parent)] == ["report.json"]


def test_plans_of_the_tests_can_be_read_back(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"stage.stage": 3}, operators=["cpu_adam"])
    assert read_plan(Path(plan.run_dir)) == plan
    assert plan.ds_config["zero_optimization"]["stage"] == 3
