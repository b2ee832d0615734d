"""A checkpoint is written completely or not at all, also where an attempt repeats the steps of another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkpoints import flip_bit, make_checkpoint
from tests.support.plans import begin_attempt, make_plan
from zpipe.checkpoints.rotation import tidy
from zpipe.checkpoints.state import State, inspect
from zpipe.plans.changes import result_digest
from zpipe.runfolder.attempt_start import AttemptStart
from zpipe.train import checkpoint_writer
from zpipe.train.checkpoint_writer import CheckpointWriter
from zpipe.train.ranks import Rank


def writer_in(
    run: Path, limit: int | None = None, on_notice: Callable[[str], None] = lambda _: None
) -> CheckpointWriter:
    plan = make_plan(run, experiment={"checkpoint.save_total_limit": limit})
    begin_attempt(run)
    start = AttemptStart(run_id="this-run")
    return CheckpointWriter(plan, Rank(0, 0, 1, "launch"), start, on_notice=on_notice)


def write(writer: CheckpointWriter, step: int, text: str = "weights", keep: tuple[Path, ...] = ()) -> None:
    with writer.writing(step, epoch=0.5, keep=keep) as save:
        folder = save.folder
        (folder / "global_step").mkdir()
        (folder / "global_step" / "states.pt").write_text(text)
        (folder / "model.safetensors").write_text(text)
    writer.finish()


def states_in(run: Path) -> dict[str, State]:
    return {path.name: inspect(path, "this-run").state for path in run.glob("checkpoint-*")}


def test_what_was_written_is_an_intact_checkpoint_of_this_run(tmp_path: Path) -> None:
    write(writer_in(tmp_path), 4)
    found = inspect(tmp_path / "checkpoint-4", "this-run")
    assert (found.state, found.step) == ("good", 4)
    assert found.manifest is not None
    assert (found.manifest.world_size, found.manifest.stage, found.manifest.dtype) == (1, 2, "fp32")
    assert [entry.path for entry in found.manifest.files] == ["global_step/states.pt", "model.safetensors"]
    assert found.manifest.plan_digest == result_digest(make_plan(tmp_path))


def test_what_was_not_finished_is_no_checkpoint_and_is_tidied_away(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writer_in(tmp_path).writing(4, epoch=0.5, keep=()) as save:
        (save.folder / "model.safetensors").write_text("half")
        raise RuntimeError("killed")
    assert states_in(tmp_path) == {}
    assert [path.name for path in tidy(tmp_path)] == [".saving-1-4"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_has_the_name_of_a_checkpoint_is_kept_under_another(kind: str, tmp_path: Path) -> None:
    run, notes = tmp_path / "run", tmp_path / "notes"
    notes.mkdir()
    (notes / "notes.txt").write_text("mine")
    run.mkdir()
    there = run / "checkpoint-4"
    if kind == "link":
        there.symlink_to(notes)
    elif kind == "file":
        there.write_text("mine")
    else:
        notes.rename(there)
    said: list[str] = []
    writer = writer_in(run, on_notice=said.append)
    write(writer, 4)
    kept = run / "checkpoint-4.kept-1"
    assert inspect(there, "this-run").state == "good"
    assert (kept if kind == "file" else kept / "notes.txt").read_text() == "mine"
    assert said == ["checkpoint-4 was there without a manifest, and is kept as checkpoint-4.kept-1"]


def test_rotation_that_a_kill_prevented_is_made_up_for(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        make_checkpoint(tmp_path, step)
    writer_in(tmp_path, limit=2).rotate(6, keep=())
    assert sorted(states_in(tmp_path)) == ["checkpoint-4", "checkpoint-6"]


def test_a_damaged_checkpoint_that_was_passed_over_is_replaced(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    flip_bit(make_checkpoint(tmp_path, 4) / "model.safetensors", 0)
    assert states_in(tmp_path) == {"checkpoint-4": "damaged"}
    write(writer, 4)
    assert states_in(tmp_path) == {"checkpoint-4": "good"}
    assert (tmp_path / "checkpoint-4" / "model.safetensors").read_text() == "weights"
    assert not list(tmp_path.glob(".*-4"))


def test_old_checkpoints_are_removed_but_those_that_are_kept(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, limit=2)
    for step in (2, 4, 6, 8):
        write(writer, step, keep=(tmp_path / "checkpoint-2",))
    assert states_in(tmp_path) == {f"checkpoint-{step}": "good" for step in (2, 6, 8)}


def test_a_checkpoint_that_would_not_fit_makes_room_before_it_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_in(tmp_path, limit=3)
    for step in (2, 4):
        write(writer, step)
    monkeypatch.setattr(checkpoint_writer, "room_for", lambda folder, needed: "no room")
    with pytest.raises(OSError, match="No space left on device: no room"):
        write(writer, 6)
    assert states_in(tmp_path) == {"checkpoint-4": "good"}


def test_rotation_keeps_what_was_just_written_before_a_damaged_one(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, limit=1)
    make_checkpoint(tmp_path, 20)
    flip_bit(make_checkpoint(tmp_path, 40) / "model.safetensors", 0)
    write(writer, 30)
    assert states_in(tmp_path) == {"checkpoint-30": "good", "checkpoint-40": "damaged"}
