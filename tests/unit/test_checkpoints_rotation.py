"""What rotation removes and what it never touches; whether a checkpoint fits on the disk."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import edit_manifest, make_checkpoint, truncate
from zpipe.checkpoints.choice import newest_good
from zpipe.checkpoints.folders import STAGING_PREFIX, checkpoints_in
from zpipe.checkpoints.manifest import MANIFEST_NAME
from zpipe.checkpoints.rotation import remove_old, tidy
from zpipe.checkpoints.space import room_for


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with the checkpoints 10, 20, 30 and 40."""
    for step in (10, 20, 30, 40):
        make_checkpoint(tmp_path / "run", step)
    return tmp_path / "run"


def steps(run_dir: Path) -> list[int]:
    return [int(folder.name.rpartition("-")[2]) for folder in checkpoints_in(run_dir)]


def test_newest_ones_stay(run_dir: Path) -> None:
    removed = remove_old(run_dir, 2)
    assert steps(run_dir) == [40, 30]
    assert [folder.name for folder in removed] == ["checkpoint-20", "checkpoint-10"]


def test_nothing_else_is_left_of_a_removed_checkpoint(run_dir: Path) -> None:
    remove_old(run_dir, 1)
    assert [path.name for path in run_dir.iterdir()] == ["checkpoint-40"]


def test_without_a_limit_all_stay(run_dir: Path) -> None:
    assert remove_old(run_dir, None) == []
    assert steps(run_dir) == [40, 30, 20, 10]


def test_best_one_stays_beyond_the_limit(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run_dir)
    remove_old(run_dir, 2, keep=[tmp_path / "link" / "checkpoint-10"])
    assert steps(run_dir) == [40, 30, 10]


def test_newest_one_stays_under_any_limit(run_dir: Path) -> None:
    remove_old(run_dir, 0)
    assert steps(run_dir) == [40]


def test_newest_one_to_go_on_from_stays_beside_models_alone(run_dir: Path) -> None:
    for step in (30, 40):
        edit_manifest(run_dir / f"checkpoint-{step}", resumable=False)
    remove_old(run_dir, 1)
    assert steps(run_dir) == [40, 20]
    make_checkpoint(run_dir, 50)
    remove_old(run_dir, 1)
    assert steps(run_dir) == [50]


def test_checkpoint_that_was_passed_over_does_not_cost_the_one_just_written(run_dir: Path) -> None:
    truncate(run_dir / "checkpoint-40" / "latest")
    removed = remove_old(run_dir, 1, run_id="this-run", step=30)
    assert steps(run_dir) == [40, 30]
    assert [folder.name for folder in removed] == ["checkpoint-20", "checkpoint-10"]


def test_incomplete_ones_are_neither_counted_nor_removed(run_dir: Path) -> None:
    (run_dir / "checkpoint-40" / MANIFEST_NAME).unlink()
    (run_dir / "checkpoint-20" / MANIFEST_NAME).write_text("{")
    remove_old(run_dir, 1)
    assert steps(run_dir) == [40, 30, 20]


def test_checkpoints_of_another_run_neither_count_nor_go(run_dir: Path) -> None:
    make_checkpoint(run_dir, 15, "that-run")
    make_checkpoint(run_dir, 1000, "that-run")
    remove_old(run_dir, 1, run_id="this-run")
    assert steps(run_dir) == [1000, 40, 15]


def test_link_is_not_removed_nor_what_it_leads_to(run_dir: Path, tmp_path: Path) -> None:
    outside = make_checkpoint(tmp_path / "elsewhere", 5)
    (run_dir / "checkpoint-5").symlink_to(outside)
    remove_old(run_dir, 1)
    assert (run_dir / "checkpoint-5" / "latest").exists()


def test_kill_while_deleting_leaves_no_half_checkpoint(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, **options: Any) -> None:
        (folder / "latest").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        remove_old(run_dir, 3)
    assert (run_dir / ".removing-checkpoint-10").is_dir()
    assert steps(run_dir) == [40, 30, 20]
    assert newest_good(run_dir, "this-run", lambda skipped: pytest.fail(str(skipped))) is not None
    assert [folder.name for folder in tidy(run_dir)] == [".removing-checkpoint-10"]


def test_left_over_of_the_same_step_is_replaced(run_dir: Path) -> None:
    shutil.copytree(run_dir / "checkpoint-10", run_dir / ".removing-checkpoint-10")
    remove_old(run_dir, 3)
    assert not (run_dir / ".removing-checkpoint-10").exists()
    assert steps(run_dir) == [40, 30, 20]


@pytest.mark.parametrize("is_link", [True, False])
def test_file_in_the_way_of_a_removal_makes_room(is_link: bool, run_dir: Path, tmp_path: Path) -> None:
    in_the_way = run_dir / ".removing-checkpoint-10"
    (tmp_path / "elsewhere").mkdir()
    in_the_way.symlink_to(tmp_path / "elsewhere") if is_link else in_the_way.touch()
    remove_old(run_dir, 3)
    assert steps(run_dir) == [40, 30, 20]
    assert (tmp_path / "elsewhere").is_dir()
    assert not in_the_way.is_symlink()


def test_tidy_removes_left_overs_and_nothing_else(run_dir: Path) -> None:
    for name in (f"{STAGING_PREFIX}checkpoint-50", ".removing-checkpoint-5", "logs", "saving-1"):
        (run_dir / name / "inner").mkdir(parents=True)
    (run_dir / ".saving-note").touch()
    removed = [folder.name for folder in tidy(run_dir)]
    assert removed == [".removing-checkpoint-5", ".saving-checkpoint-50"]
    left = {path.name for path in run_dir.iterdir()} - {path.name for path in checkpoints_in(run_dir)}
    assert left == {"logs", "saving-1", ".saving-note"}


def test_tidy_leaves_links(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").touch()
    (run_dir / ".saving-checkpoint-50").symlink_to(tmp_path / "precious")
    (run_dir / ".removing-checkpoint-1").mkdir()
    (run_dir / ".removing-checkpoint-1" / "link").symlink_to(tmp_path / "precious")
    tidy(run_dir)
    assert (run_dir / ".saving-checkpoint-50").is_symlink()
    assert not (run_dir / ".removing-checkpoint-1").exists()
    assert (tmp_path / "precious" / "thesis.txt").exists()


def test_tidy_of_a_run_that_never_started(tmp_path: Path) -> None:
    assert tidy(tmp_path / "run") == []


def test_room_is_told_in_a_sentence_only_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(2**40, 2**40 - 2**30, 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert room_for(tmp_path, 2**30) is None
    expected = f"a checkpoint needs 1.5 GiB, and the file system of {tmp_path} has 1.0 GiB left"
    assert room_for(tmp_path, 3 * 2**29) == expected
