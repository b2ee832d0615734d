"""What zpipe shows, archives and records of a run with several attempts."""

import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.attempts import begin_attempt, end_attempt, report
from tests.support.plans import make_plan
from tests.support.recording import run_of
from zpipe.cli.main import main
from zpipe.diagnose import archive
from zpipe.record.record_run import record_run
from zpipe.record.store import default_uri
from zpipe.runfolder.folder import Attempt, RunFolder

Captured = pytest.CaptureFixture[str]

Events = tuple[str, dict[str, Any]]


def steps(*numbers: int) -> list[Events]:
    return [
        ("phase", {"name": "train", "detail": ""}),
        *(("metrics", {"step": number, "values": {"loss": 9.0 - number}}) for number in numbers),
    ]


def began(number: int, step: int) -> Events:
    return "attempt", {"number": number, "step": step}


def make_run(run: Path) -> RunFolder:
    """A failed attempt, one that was killed before it reported anything, and a finished one."""
    make_plan(run)
    first = begin_attempt(run)
    report(first, *steps(1, 2, 3), ("failed", {"type": "ValueError", "message": "no such thing"}))
    end_attempt(first, "failed", reason="rank 0: no such thing", failed_rank=0)
    first.postmortem.write_text("# Post-mortem: failed\n")
    begin_attempt(run, run / "checkpoint-2", 2)
    third = begin_attempt(run, run / "checkpoint-2", 2)
    report(third, began(3, 2), *steps(3, 4), ("phase", {"name": "done", "detail": ""}))
    end_attempt(third, "finished", attempts=3)
    return RunFolder(run)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


def shown(folder: RunFolder, capsys: Captured) -> list[str]:
    assert main(["show", str(folder.path)]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_each_attempt_is_a_line(folder: RunFolder, capsys: Captured) -> None:
    lines = shown(folder, capsys)
    assert lines[0] == "finished"
    assert "attempts 3" in lines
    place = lines.index("attempt ended steps went on from")
    assert lines[place + 1 : place + 4] == [
        "1 failed 0 to 3",
        "2 no result none checkpoint-2",
        "3 finished 2 to 4 checkpoint-2",
    ]


def test_post_mortem_of_an_earlier_attempt_is_not_shown(folder: RunFolder, capsys: Captured) -> None:
    assert "# Post-mortem: failed" not in shown(folder, capsys)


def test_only_attempt_is_no_line(tmp_path: Path, capsys: Captured) -> None:
    make_plan(tmp_path / "run")
    end_attempt(begin_attempt(tmp_path / "run"), "finished")
    assert not any(line.startswith("attempt") for line in shown(RunFolder(tmp_path / "run"), capsys))


def test_checkpoint_of_another_run_is_shown_with_its_path(tmp_path: Path, capsys: Captured) -> None:
    make_plan(tmp_path / "run")
    begin_attempt(tmp_path / "run", tmp_path / "other" / "checkpoint-7", 7)
    lines = shown(RunFolder(tmp_path / "run"), capsys)
    assert f"1 no result none {tmp_path}/other/checkpoint-7" in lines


def test_plan_that_was_not_started_is_called_so(tmp_path: Path, capsys: Captured) -> None:
    make_plan(tmp_path / "run")
    assert shown(RunFolder(tmp_path / "run"), capsys)[0] == "a plan that was not started"


@pytest.mark.parametrize("name", ["attempt.json", "result.json", "events.jsonl"])
@pytest.mark.parametrize("content", ["", "null", "[" * 100_000, '{"ending": 5}'])
def test_damaged_file_of_an_earlier_attempt_spoils_one_cell(
    name: str, content: str, folder: RunFolder, capsys: Captured
) -> None:
    (folder.numbered(1).path / name).write_text(content)
    lines = shown(folder, capsys)
    assert "3 finished 2 to 4 checkpoint-2" in lines
    assert ("1 result.json is damaged 0 to 3" in lines) == (name == "result.json")


# The archive


def write_logs(attempt: Attempt) -> None:
    log = attempt.logs / "x" / "attempt_0" / "0" / "stderr.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"log of {attempt.path.name}\n")
    attempt.rank_error(0).write_text("{}")
    attempt.samples.touch()


def test_archive_has_the_files_of_every_attempt(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zpipe.machine.describe.operators", lambda device: "")
    for attempt in (folder.numbered(1), folder.numbered(3)):
        write_logs(attempt)
    names = archive.write_archive(folder, tmp_path / "bug.tar.gz", lambda text: None)
    assert len(set(names)) == len(names)
    for number in (1, 3):
        for name in ("attempt.json", "result.json", "events.jsonl", "samples.jsonl", "rank0.error.json"):
            assert f"attempt-{number}/{name}" in names
    assert {"attempt-1/postmortem.md", "attempt-2/attempt.json", "plan.json", "versions.txt"} <= set(names)
    with tarfile.open(tmp_path / "bug.tar.gz") as found:
        log = found.extractfile("bug/attempt-1/logs/x/attempt_0/0/stderr.log")
        assert log is not None
        assert log.read() == b"log of attempt-1\n"


def test_archive_follows_no_link_to_an_attempt(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zpipe.machine.describe.operators", lambda device: "")
    elsewhere = begin_attempt(tmp_path / "elsewhere")
    (folder.path / "attempt-4").symlink_to(elsewhere.path)
    (folder.numbered(3).path / "postmortem.md").symlink_to(elsewhere.start)
    names = archive.write_archive(folder, tmp_path / "bug.tar.gz", lambda text: None)
    assert not any(name.startswith("attempt-4") for name in names)
    assert "attempt-3/postmortem.md" not in names


# MLflow


def test_record_of_several_attempts_is_that_of_one_run(
    base: Path, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    folder = make_run(tmp_path / "run")
    monkeypatch.chdir(base)
    assert record_run(folder.path, base, default_uri(base)).ok
    run = run_of(client, make_plan(folder.path))
    tags = {name: value for name, value in run.data.tags.items() if name.startswith("zpipe.")}
    assert (tags["zpipe.attempts"], tags["zpipe.ending"], tags["zpipe.exit_code"]) == ("3", "finished", "0")
    assert not {"zpipe.error", "zpipe.reason", "zpipe.failed_rank"} & tags.keys()
    artifacts = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert {"events.jsonl", "postmortem.md", "attempt-3"} <= artifacts
    capsys.readouterr()
    assert main(["runs", "--uri", default_uri(base)]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[5:8] == ["attempts", "train", "loss"]
    cells = line.split()
    assert cells[cells.index("5.0000") - 1] == "3"


def test_ending_of_a_failed_attempt_leaves_the_record_when_the_next_begins(
    base: Path, client: Any, tmp_path: Path
) -> None:
    plan = make_plan(tmp_path / "run")
    first = begin_attempt(tmp_path / "run")
    report(first, *steps(1, 2), ("failed", {"type": "ValueError", "message": "no such thing"}))
    end_attempt(first, "failed", reason="rank 0: no such thing", failed_rank=0)
    assert record_run(tmp_path / "run", base, default_uri(base)).ok
    assert run_of(client, plan).data.tags["zpipe.error"] == "ValueError: no such thing"
    second = begin_attempt(tmp_path / "run")
    report(second, began(2, 0), *steps(3), ("phase", {"name": "done", "detail": ""}))
    end_attempt(second, "finished")
    assert record_run(tmp_path / "run", base, default_uri(base)).ok
    run = run_of(client, plan)
    assert run.info.status == "FINISHED"
    assert not {"zpipe.error", "zpipe.reason", "zpipe.failed_rank"} & run.data.tags.keys()
