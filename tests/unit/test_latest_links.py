"""The run folder shows the files of its last attempt under their plain names."""

import shutil
from pathlib import Path

import pytest

from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.latest_links import link_latest


def begun(run: Path, number: int, **files: str) -> None:
    attempt = RunFolder(run).begin(number)
    for name, text in files.items():
        getattr(attempt, name).write_text(text)
    link_latest(attempt)


def test_files_of_the_last_attempt_are_found_in_the_run_folder(tmp_path: Path) -> None:
    begun(tmp_path, 1, events="first", result="killed", postmortem="why")
    begun(tmp_path, 2, events="second")
    assert (tmp_path / "events.jsonl").read_text() == "second"
    assert not (tmp_path / "result.json").is_symlink(), "the second attempt has no result yet"
    assert not (tmp_path / "postmortem.md").is_symlink()


def test_links_survive_a_move_and_a_copy_of_the_folder(tmp_path: Path) -> None:
    begun(tmp_path / "run", 1, events="first")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "events.jsonl").read_text() == "first"
    assert (tmp_path / "copy" / "events.jsonl").read_text() == "first"


@pytest.mark.parametrize("is_link", [False, True])
def test_files_of_the_user_stay(tmp_path: Path, is_link: bool) -> None:
    own = tmp_path / "result.json"
    if is_link:
        (tmp_path / "own.json").write_text("mine")
        own.symlink_to("own.json")
    else:
        own.write_text("mine")
    begun(tmp_path, 1, result="finished")
    assert own.read_text() == "mine"
    assert (own.is_symlink(), (tmp_path / "attempt-1" / "result.json").read_text()) == (is_link, "finished")
