"""A sweep whose leading process was killed can be recorded and resumed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.support.events import EventWriter
from tests.support.plans import make_plan
from tests.support.store import Store, put_store
from zpipe.exits import Exit
from zpipe.problems import Refusal
from zpipe.record.record_run import record_run
from zpipe.record.store import default_uri
from zpipe.runfolder.outcome import Outcome
from zpipe.sweep import ledger
from zpipe.sweep.definition import Definition, read_definition, write_definition
from zpipe.sweep.recording import record_sweep
from zpipe.sweep.resume import prepare
from zpipe.sweep.session import Session
from zpipe.sweep.settled import settled_before


def run_point(sweep: Path, name: str, *, done: bool) -> None:
    """The run folder of a finished or killed training."""
    overrides = [f"stage={name}"]
    attempt = ledger.new_attempt(name, overrides, 0)
    ledger.append(sweep, attempt)
    plan = make_plan(sweep / name)
    writer = EventWriter(Path(plan.run_dir))
    writer.write("phase", name="model", detail="")
    writer.write("metrics", step=1, values={"loss": 4.0})
    if done:
        writer.write("phase", name="done", detail="")
        result = record_run(Path(plan.run_dir), sweep.parent)
        summary = {"train_loss": 4.0, "tokens_per_sec": 10.0, "memory/host_peak_gib": 1.0}
        outcome = Outcome(
            ending="finished", run_dir=plan.run_dir, summary=summary, mlflow_run_id=result.run_id
        )
        ledger.append(sweep, attempt.with_outcome(outcome))
    writer.close()


@pytest.fixture
def killed(empty_store: Path, tmp_path: Path) -> Iterator[Path]:
    """The folder of a sweep that was killed during its second point, before it reached MLflow."""
    sweep = put_store(empty_store, tmp_path) / "sweep"
    sweep.mkdir()
    write_definition(
        sweep,
        Definition(
            arguments=["-m", "stage=1,2"],
            cwd=str(tmp_path),
            swept=["stage"],
            uri=default_uri(tmp_path),
            experiment="zpipe",
        ),
    )
    run_point(sweep, "1", done=True)
    run_point(sweep, "2", done=False)
    before = Path.cwd()
    yield sweep
    os.chdir(before)


def runs_of(sweep: Path) -> tuple[Any, list[Any], list[Any]]:
    """The run of the sweep, its children and all other runs."""
    runs = Store(sweep.parent).runs()
    (parent,) = [run for run in runs if "zpipe.sweep_dir" in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return parent, children, [run for run in runs if run not in (parent, *children)]


def test_recording_a_killed_sweep_closes_all_runs(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record_sweep(killed) == Exit.FINISHED
    parent, children, others = runs_of(killed)
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in children} == {"FINISHED", "KILLED"}
    assert others == []
    assert {"sweep_report.html", "points.json"} <= Store(killed.parent).artifacts(parent.info.run_id)
    assert f"zpipe sweep resume {killed}" in capsys.readouterr().out


def test_the_sweeps_run_has_its_best_point_and_what_was_swept(killed: Path) -> None:
    record_sweep(killed)
    parent, _, _ = runs_of(killed)
    assert parent.data.metrics["sweep/best_train_loss"] == 4.0
    assert parent.data.tags["zpipe.best_settings"] == "stage=1"
    assert parent.data.params == {"stage": "1, 2"}


def test_sweep_killed_between_two_points_is_not_finished(killed: Path) -> None:
    (killed / ledger.FILE_NAME).write_bytes(
        b"".join(line for line in (killed / ledger.FILE_NAME).read_bytes().splitlines(True) if b'"1"' in line)
    )
    record_sweep(killed)
    parent, children, _ = runs_of(killed)
    assert (parent.info.status, len(children)) == ("KILLED", 1)


def test_recording_again_changes_nothing(killed: Path) -> None:
    record_sweep(killed)
    before = [(run.info.run_id, run.info.status) for run in Store(killed.parent).runs()]
    record_sweep(killed)
    assert [(run.info.run_id, run.info.status) for run in Store(killed.parent).runs()] == before


def test_unfinished_point_is_closed_before_resuming_and_stays_in_the_sweep(killed: Path) -> None:
    record_sweep(killed)
    assert prepare(killed, []) == ["-m", "stage=1,2"]
    _, children, others = runs_of(killed)
    assert sorted(run.info.status for run in children) == ["FINISHED", "KILLED"]
    assert list(others) == []
    definition = read_definition(killed)
    assert definition is not None
    assert definition.session == 1
    assert Path.cwd() == killed.parent


def test_point_whose_workers_finished_is_not_run_again(killed: Path) -> None:
    writer = EventWriter(killed / "2")
    writer.write("summary", values={"train_loss": 3.0})
    writer.write("phase", name="done", detail="")
    writer.close()
    prepare(killed, [])
    assert [(point.folder, point.ending) for point in ledger.points(killed)] == [
        ("1", "finished"),
        ("2", "finished"),
    ]
    assert settled_before(killed, ["stage=2"], session=1) is not None


def test_sweep_with_a_running_point_is_not_resumed(killed: Path) -> None:
    with FileLock(killed / "2" / ".record.lock"), pytest.raises(Refusal, match="still running"):
        prepare(killed, [])
    definition = read_definition(killed)
    assert definition is not None
    assert definition.session == 0


@pytest.mark.parametrize("gone", ["sweep.json", "cwd"])
def test_sweep_without_definition_or_folder_is_not_resumed(gone: str, killed: Path) -> None:
    definition = read_definition(killed)
    assert definition is not None
    if gone == "cwd":
        write_definition(killed, definition.model_copy(update={"cwd": "/no/such/folder"}))
    else:
        (killed / gone).unlink()
    with pytest.raises(Refusal):
        prepare(killed, [])


@pytest.fixture
def elsewhere(killed: Path, empty_store: Path) -> Path:
    """A folder with another store."""
    return put_store(empty_store, killed.parent / "elsewhere")


def test_a_sweep_is_recorded_in_another_store_with_all_its_points(killed: Path, elsewhere: Path) -> None:
    record_sweep(killed)
    first = {run.info.run_id for run in Store(killed.parent).runs()}
    assert record_sweep(killed, default_uri(elsewhere)) == Exit.FINISHED
    parents = {run.data.tags.get("mlflow.parentRunId") for run in Store(elsewhere).runs()}
    (parent,) = [run.info.run_id for run in Store(elsewhere).runs() if "zpipe.sweep_dir" in run.data.tags]
    assert (len(Store(elsewhere).runs()), parents) == (3, {None, parent})
    assert record_sweep(killed) == Exit.FINISHED
    assert {run.info.run_id for run in Store(killed.parent).runs()} == first


def test_a_sweep_that_the_store_has_lost_is_recorded_again(killed: Path, empty_store: Path) -> None:
    record_sweep(killed)
    shutil.copy(empty_store, Store(killed.parent).file)
    assert record_sweep(killed) == Exit.FINISHED
    _, children, others = runs_of(killed)
    assert (len(children), others) == (2, [])


def test_a_sweep_that_goes_on_in_another_store_takes_its_settled_points_along(
    killed: Path, elsewhere: Path
) -> None:
    record_sweep(killed)
    prepare(killed, [f"tracking.uri={default_uri(elsewhere)}"])
    recorded = {run.info.run_id for run in Store(elsewhere).runs()}
    assert {point.mlflow_run_id for point in ledger.points(killed)} == recorded
    assert len(recorded) == 2


def test_a_sweep_opens_its_run_anew_in_another_store(killed: Path, elsewhere: Path) -> None:
    record_sweep(killed)
    definition = read_definition(killed)
    assert definition is not None
    session = Session()
    session.open(killed, definition, default_uri(elsewhere))
    assert [run.info.run_id for run in Store(elsewhere).runs()] == [session.definition.mlflow_run_id]
    assert session.definition.mlflow_run_id != definition.mlflow_run_id
