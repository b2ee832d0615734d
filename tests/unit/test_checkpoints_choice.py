"""A run continues from the newest undamaged checkpoint of its own."""

import os
from pathlib import Path

import pytest

from tests.support.checkpoints import flip_bit, make_checkpoint, truncate
from zpipe.checkpoints.choice import newest_good
from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.manifest import MANIFEST_NAME
from zpipe.checkpoints.state import CheckpointState
from zpipe.problems import Refusal


def names(folders: list[Path]) -> list[str]:
    return [folder.name for folder in folders]


def none_skipped(skipped: CheckpointState) -> None:
    pytest.fail(str(skipped))


def test_checkpoints_are_ordered_by_step_and_not_by_time(tmp_path: Path) -> None:
    for time, step in enumerate((100, 9, 20, 0)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        os.utime(tmp_path / f"checkpoint-{step}", (time, time))
    expected = ["checkpoint-100", "checkpoint-20", "checkpoint-9", "checkpoint-0"]
    assert names(checkpoints_in(tmp_path)) == expected


def test_only_real_folders_of_the_exact_name_are_checkpoints(tmp_path: Path) -> None:
    for name in ("checkpoint-1", "checkpoint-x", "checkpoint-007", "checkpoint--2", ".saving-checkpoint-3"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-4").touch()
    (tmp_path / "checkpoint-5").symlink_to(tmp_path / "checkpoint-1")
    assert names(checkpoints_in(tmp_path)) == ["checkpoint-1"]


def test_run_without_a_folder_has_no_checkpoints(tmp_path: Path) -> None:
    assert checkpoints_in(tmp_path / "run") == []
    assert newest_good(tmp_path / "run", "this-run", none_skipped) is None


def test_newest_good_one_is_chosen(tmp_path: Path) -> None:
    for step in (8, 16, 9):
        make_checkpoint(tmp_path, step)
    found = newest_good(tmp_path, "this-run", none_skipped)
    assert found is not None
    assert (found.step, found.state) == (16, "good")


def test_damaged_and_incomplete_ones_are_passed_over_in_order(tmp_path: Path) -> None:
    folders = {step: make_checkpoint(tmp_path, step) for step in (10, 20, 30, 40, 50)}
    flip_bit(folders[50] / "model.safetensors", 7)
    (folders[40] / MANIFEST_NAME).unlink()
    truncate(folders[30] / "latest")
    skipped: list[CheckpointState] = []
    found = newest_good(tmp_path, "this-run", skipped.append)
    assert found is not None
    assert found.path == folders[20]
    assert [(each.step, each.state) for each in skipped] == [
        (50, "damaged"),
        (40, "incomplete"),
        (30, "damaged"),
    ]


def test_nothing_is_chosen_where_all_are_damaged(tmp_path: Path) -> None:
    (make_checkpoint(tmp_path, 10) / "latest").unlink()
    skipped: list[CheckpointState] = []
    assert newest_good(tmp_path, "this-run", skipped.append) is None
    assert [each.damage for each in skipped] == [("missing: latest",)]


def test_checkpoint_of_another_run_is_refused_with_a_way_out(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, 10)
    folder = make_checkpoint(tmp_path, 20, "that-run")
    with pytest.raises(Refusal) as refused:
        newest_good(tmp_path, "this-run", none_skipped)
    (problem,) = refused.value.problems
    assert (problem.key, problem.value) == ("resume", str(folder))
    assert "that-run" in problem.reason
    assert problem.fix == "move checkpoint-20 out of the run folder, or leave hydra.run.dir out"


def test_damaged_checkpoint_of_another_run_is_refused_as_well(tmp_path: Path) -> None:
    truncate(make_checkpoint(tmp_path, 20, "that-run") / "latest")
    with pytest.raises(Refusal, match="that-run"):
        newest_good(tmp_path, "this-run", none_skipped)
