"""`zpipe runs` and `zpipe show` print the runs of a store."""

from pathlib import Path

import pytest

from tests.support.events import EventWriter
from tests.support.plans import make_plan
from tests.support.store import put_store
from zpipe.cli.main import main, run_verb
from zpipe.exits import Exit
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.record.recorder_thread import RecorderThread
from zpipe.record.store import default_uri
from zpipe.record.sweeps import SweepRun
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Outcome, write_outcome


def make_run(base: Path, name: str, loss: float, parent: str | None = None) -> Plan:
    changes = {
        "tracking.run_name": name,
        "stage.stage": 3,
        "offload.offload_optimizer.device": "cpu",
        "offload.offload_param.device": "cpu",
    }
    plan = make_plan(base / name, experiment=changes)
    writer = EventWriter(Path(plan.run_dir))
    writer.write("phase", name="model", detail="")
    writer.write("metrics", step=4, values={"loss": loss, "throughput/tokens_per_sec": 900.0})
    summary = {"final_loss": loss, "tokens_per_sec": 1234.5, "memory/host_peak_gib": 2.5}
    writer.write("summary", values=summary)
    writer.close()
    result = RecorderThread(plan, default_uri(base), parent, base).finish("FINISHED")
    assert result.ok
    write_outcome(
        Outcome(ending="finished", run_dir=plan.run_dir, summary=summary, mlflow_run_id=result.run_id)
    )
    return plan


@pytest.fixture(scope="module")
def base(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of two runs, and a single run."""
    base = put_store(empty_store, tmp_path_factory.mktemp("browse"))
    sweep = SweepRun(default_uri(base), "zpipe", "sweep of stage", base / "sweep", ["-m", "stage=2,3"], base)
    parent = sweep.open()
    for name, loss in (("first", 2.25), ("second", 2.125)):
        make_run(base, name, loss, parent)
    make_run(base, "alone", 3.5)
    return base


def runs(*arguments: str) -> int:
    return run_verb("runs", list(arguments))


def show(*arguments: str) -> int:
    return run_verb("show", list(arguments))


@pytest.fixture(autouse=True)
def in_base(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    monkeypatch.setenv("COLUMNS", "200")


def test_runs_are_listed_with_points_below_their_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    assert runs() == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        *("run", "name", "status", "stage", "offload"),
        *("train", "loss", "tokens/s", "host", "GiB", "age"),
    ]
    assert [line[10:].split("FINISHED")[0].split("RUNNING")[0].rstrip() for line in lines] == [
        "alone",
        "sweep of stage",
        "  second",
        "  first",
    ]
    assert lines[0].split()[1:8] == ["alone", "FINISHED", "3", "cpu", "3.5000", "1,234", "2.50"]


def test_runs_can_be_limited(capsys: pytest.CaptureFixture[str]) -> None:
    runs("--limit", "1")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_misspelled_experiment_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Refusal, match="--experiment zpipe"):
        runs("--experiment", "zpip")


@pytest.mark.parametrize("limit", ["0", "-1", "50001", "x"])
def test_invalid_limit_is_refused(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", f"--limit={limit}"]) == 2
    assert "allowed: 1 to 50000" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["runs"], ["show", "abc"], ["report", "abc"]], ids=lambda each: each[0])
def test_dead_server_is_reported_in_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--uri", "http://me:s3cr3t@127.0.0.1:1"]) == Exit.ENVIRONMENT
    assert capsys.readouterr().err == "cannot use http://me:***@127.0.0.1:1: Connection refused\n"


def test_missing_database_driver_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--uri", "mssql://host/db"]) == Exit.ENVIRONMENT
    assert capsys.readouterr().err.startswith("cannot use mssql://host/db: No module named")


def test_reading_does_not_create_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match="this store does not exist"):
        runs()
    assert list(tmp_path.iterdir()) == []


def test_run_is_shown_from_its_folder(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(base / "first").attempt.postmortem.write_text("# What happened\n")
    assert show("first") == 0
    shown = capsys.readouterr().out
    for words in ("finished", "zpipe stage=2 train.max_steps=4", "2.2500 last", "1,234", "What happened"):
        assert words in shown, words


def test_run_is_shown_by_the_beginning_of_its_id(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs("--limit", "1")
    (line,) = capsys.readouterr().out.splitlines()[1:]
    show(line.split()[0])
    shown = capsys.readouterr().out
    for words in ("alone: FINISHED", "reduce_bucket_size  500000000", "3.5000", str(base / "alone")):
        assert words in shown, words


def test_sweep_is_shown_with_its_points(capsys: pytest.CaptureFixture[str]) -> None:
    runs()
    sweep = next(line for line in capsys.readouterr().out.splitlines() if "sweep of stage" in line)
    show(sweep.split()[0])
    shown = capsys.readouterr().out
    assert "second" in shown
    assert "alone" not in shown


@pytest.mark.parametrize("argument", ["ffffffffffff", "no/folder", ""])
def test_unknown_run_is_refused(argument: str) -> None:
    with pytest.raises(Refusal):
        show(argument)
