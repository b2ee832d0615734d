"""The files of a run folder may be anything: they are refused or skipped, never followed, and never hang."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.plans import begin_attempt, make_plan
from zpipe.cli.main import main
from zpipe.machine.samples import read_samples
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.json_lines import append_line
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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FILES)
def test_show_survives(name: str, shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.write_text("SECRET OF THE READER\n")
    make_plan(run)
    attempt = begin_attempt(run)
    if name == attempt.path.name:
        attempt.path.rename(tmp_path / "moved")
    (run / name).unlink(missing_ok=True)
    SHAPES[shape](run / name, outside)
    assert main(["show", str(run)]) in (0, 2)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert "SECRET OF" not in shown.out + shown.err
    read_samples(RunFolder(run).attempt)


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
