"""A checkpoint is written beside what lies in the run folder, whatever that is."""

from pathlib import Path

import pytest

from tests.support.attempts import RUN_ID
from tests.support.checkpoints import make_checkpoint, truncate
from tests.support.plans import make_plan
from zpipe.checkpoints.choice import newest_good
from zpipe.runfolder.attempt_start import AttemptStart
from zpipe.train import checkpoint_writer
from zpipe.train.checkpoint_writer import CheckpointWriter
from zpipe.train.ranks import Rank


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointWriter:
    """That of the only rank, which needs no torch."""
    monkeypatch.setattr(checkpoint_writer, "_barrier", lambda: None)
    monkeypatch.setattr(checkpoint_writer, "_gathered", list)
    plan = make_plan(tmp_path / "run", experiment={"checkpoint.save_total_limit": 1})
    return CheckpointWriter(plan, Rank(0, 0, 1, "0"), AttemptStart(run_id=RUN_ID, step=20))


def save(writer: CheckpointWriter, step: int) -> None:
    with writer.writing(step, 0.5, []) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")


def newest(run: Path) -> str | None:
    found = newest_good(run, RUN_ID, lambda skipped: None)
    return found.path.name if found else None


def test_run_that_passed_a_damaged_checkpoint_over_writes_it_again(
    writer: CheckpointWriter, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    make_checkpoint(run, 20)
    truncate(make_checkpoint(run, 40) / "latest")
    save(writer, 40)
    assert newest(run) == "checkpoint-40"
    assert sorted(path.name for path in run.glob("*checkpoint*")) == ["checkpoint-40"]


def test_rotation_keeps_what_was_just_written_before_a_damaged_one(
    writer: CheckpointWriter, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    make_checkpoint(run, 20)
    truncate(make_checkpoint(run, 40) / "latest")
    save(writer, 30)
    assert newest(run) == "checkpoint-30"
