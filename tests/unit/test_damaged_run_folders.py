"""The files of a run folder may be anything: they are refused or skipped, never followed, and never hang."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkpoints import make_checkpoint
from tests.support.plans import begin_attempt, make_plan
from zpipe.cli.main import main
from zpipe.machine import describe
from zpipe.machine.hardware import Hardware
from zpipe.machine.samples import read_samples
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.json_lines import append_line
from zpipe.runfolder.plan_file import read_plan
from zpipe.running.runner import run_plan
from zpipe.sweep.ledger import attempts

OF_THE_ATTEMPT = ["attempt.json", "result.json", "events.jsonl", "samples.jsonl", "postmortem.md"]
FILES = ["plan.json", "record.json", "attempt-1", *(f"attempt-1/{name}" for name in OF_THE_ATTEMPT)]


def text(content: str | bytes) -> Callable[[Path, Path], object]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda path, outside: path.write_bytes(data)


SHAPES: dict[str, Callable[[Path, Path], object]] = {
    "binary": text(b"\x80\x05\x95\x00"),
    "null": text("null"),
    "empty": text(""),
    "nested": text("[" * 100_000),
    "huge integer": text('{"a": ' + "9" * 6000 + "}"),
    "other types": text(
        '{"ending": 5, "run_dir": [], "uri": 17, "offset": "x", "time": {}, "summary": {"a": "b"}}'
    ),
    "surrogate": text('{"ending": "failed", "reason": "\\ud800", "run_dir": "\\ud800"}'),
    "link": lambda path, outside: path.symlink_to(outside),
    "device": lambda path, outside: path.symlink_to("/dev/zero"),
    "fifo": lambda path, outside: os.mkfifo(path),
    "folder": lambda path, outside: path.mkdir(),
}


@pytest.fixture
def damaged(tmp_path: Path, empty_store: Path) -> Callable[[str, str], Path]:
    """Makes a run folder with something else in the place of a file."""
    outside = tmp_path / "outside"
    outside.write_text("SECRET OF THE READER\n")
    store = shutil.copy(empty_store, tmp_path / "mlflow.db")

    def make(name: str, shape: str) -> Path:
        run = tmp_path / "run"
        run.mkdir()
        make_plan(run, experiment={"tracking.uri": f"sqlite:///{store}"})
        attempt = begin_attempt(run)
        if name == attempt.path.name:
            attempt.path.rename(tmp_path / "moved")
        (run / name).unlink(missing_ok=True)
        SHAPES[shape](run / name, outside)
        return run

    return make


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FILES)
def test_show_survives(
    name: str, shape: str, damaged: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = damaged(name, shape)
    assert main(["show", str(run)]) in (0, 2)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert "SECRET OF" not in shown.out + shown.err
    read_samples(RunFolder(run).attempt)


@pytest.mark.parametrize("shape", ["binary", "link", "fifo", "folder"])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("verb", ["checkpoints", "export", "report"])
def test_verbs_that_read_survive(
    verb: str,
    name: str,
    shape: str,
    damaged: Callable[[str, str], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = damaged(name, shape)
    monkeypatch.chdir(run.parent)
    monkeypatch.setattr(describe, "operators", lambda device: "")
    assert main([verb, str(run)]) in (0, 2)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert "SECRET OF" not in shown.out + shown.err


@pytest.mark.parametrize("shape", ["link", "fifo", "folder"])
@pytest.mark.parametrize("name", ["record.json", "attempt-1/result.json", "attempt-1/events.jsonl"])
def test_recording_survives(
    name: str, shape: str, damaged: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = damaged(name, shape)
    code = main(["record", str(run)])
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    is_read = name == "attempt-1/result.json" or (name, shape) == ("record.json", "folder")
    assert (code, str(run / name) in shown) == (2 if is_read else 0, is_read)


def test_a_run_does_not_go_on_without_a_place_for_its_record(damaged: Callable[[str, str], Path]) -> None:
    run = damaged("record.json", "folder")
    outcome = run_plan(read_plan(run), Hardware(gpus=(), cores=2, memory=1 << 34))
    assert (outcome.ending, [each.key for each in outcome.problems]) == ("refused", ["record"])
    assert not (run / "attempt-2").exists()


def test_checkpoints_of_a_run_with_a_damaged_result_are_not_half_printed(
    damaged: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = damaged("attempt-1/result.json", "null")
    make_checkpoint(run, 20)
    assert main(["checkpoints", str(run)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, "result.json" in printed.err) == ("", True)
    assert main(["checkpoints", str(run), "--format", "json"]) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_ledger_survives(shape: str, tmp_path: Path) -> None:
    (tmp_path / "outside").touch()
    SHAPES[shape](tmp_path / "ledger.jsonl", tmp_path / "outside")
    assert attempts(tmp_path) == []


def test_ledger_names_no_folder_elsewhere(tmp_path: Path) -> None:
    for folder in ("../other", "/etc", "0"):
        append_line(tmp_path / "ledger.jsonl", {"folder": folder, "overrides": [], "session": 0})
    assert [attempt.folder for attempt in attempts(tmp_path)] == ["0"]


def test_appending_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    (tmp_path / "ledger.jsonl").symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(OSError, match="symbolic"):
        append_line(tmp_path / "ledger.jsonl", 1)
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_archive_follows_no_link(tmp_path: Path) -> None:
    attempt, outside = RunFolder(tmp_path / "run").begin(1), tmp_path / "outside"
    attempt.logs.mkdir()
    (outside / "attempt_0/0").mkdir(parents=True)
    (outside / "attempt_0/0/stderr.log").write_text("SECRET OF THE READER\n")
    (attempt.logs / "x").symlink_to(outside)
    assert attempt.rank_logs("stderr") == []
