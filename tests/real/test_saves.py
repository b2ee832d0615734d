"""Checkpoints that are written while the training goes on: their predicted size, full disks, stops."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from campaigns.twins import differences
from tests.support import preloaded
from tests.support.limits import tmpfs
from tests.support.process import SMALL, Run, finish
from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.state import inspect
from zpipe.runfolder.plan_file import read_plan

pytestmark = pytest.mark.real

LARGER = (
    *SMALL,
    "model.config.hidden_size=256",
    "model.config.intermediate_size=1024",
    "model.config.num_hidden_layers=4",
    "checkpoint=default",
    "checkpoint.save_steps=2",
)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    file = tmp_path / "train.txt"
    file.write_text("The training goes on while its checkpoint is written.\n" * 400)
    return file


def bytes_of(checkpoint: Path) -> int:
    return sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "settings",
    [
        ("stage=1", "precision=fp32", "optimizer=sgd", "optimizer.params.momentum=0.9"),
        ("stage=2", "precision=bf16", "optimizer=adamw_torch"),
        ("stage=3", "precision=bf16", "optimizer=rmsprop"),
        ("stage=3", "precision=fp32", "optimizer=adamw_torch"),
    ],
    ids=" ".join,
)
def test_a_checkpoint_has_the_size_that_was_predicted(
    settings: tuple[str, ...], tmp_path: Path, text_file: Path
) -> None:
    fixed = (f"data.path={text_file}", "tracking.enabled=false", "checkpoint.save_final_model=false")
    run = preloaded.zpipe(tmp_path, *LARGER, *settings, *fixed, "train.max_steps=2")
    assert run.exit_code == 0, run.explain()
    space = read_plan(run.folder).checkpoint_space
    assert space is not None
    assert space.bytes == pytest.approx(bytes_of(run.folder / "checkpoint-2"), rel=0.03)
    (saved,) = (event for event in run.events if event["event"] == "checkpoint")
    assert saved["bytes"] == bytes_of(run.folder / "checkpoint-2")
    assert set(saved["seconds"]) == {"write", "verify", "sync", "rotate"}
    assert set(saved["held_up"]) == {"snapshot", "wait"}


def test_a_disk_that_fills_up_in_the_background_ends_the_run_and_leaves_the_last_checkpoint(
    tmp_path: Path, text_file: Path
) -> None:
    with tmpfs(tmp_path / "disk", "size=200m") as mounted:
        if not mounted:  # the kernel permits it to root only; test_faults has the same without a mount
            return
        folder = tmp_path / "disk" / "run"
        fixed = (f"data.path={text_file}", "tracking.enabled=false", "train.max_steps=400")
        process = preloaded.start(tmp_path, *LARGER, *fixed, preloaded.INPROCESS, f"hydra.run.dir={folder}")
        filler = threading.Thread(target=fill_when_it_appears, args=(folder / ".saving-1-4",))
        filler.start()
        run = finish(process, folder)
        filler.join()
        assert run.exit_code == 16, run.explain()
        assert run.result["ending"] == "disk_full"
        assert [inspect(each, None).state for each in checkpoints_in(folder)] == ["good"]


def fill_when_it_appears(staging: Path) -> None:
    """Takes the disk from under a checkpoint for which it had room when its writing began."""
    deadline = time.monotonic() + 120
    while not staging.exists() and time.monotonic() < deadline:
        time.sleep(0.0005)
    with (staging.parent.parent / "filler").open("wb") as file, suppress(OSError):
        for number in range(1000):
            os.posix_fallocate(file.fileno(), number * 2**21, 2**21)


def test_a_run_that_is_terminated_while_a_checkpoint_is_written_goes_on_to_the_same_end(
    tmp_path: Path, text_file: Path
) -> None:
    twin = train(tmp_path, text_file, "twin")
    process = preloaded.start(tmp_path, *arguments(tmp_path, text_file, "run"))
    staging = tmp_path / "run" / ".saving-1-20"
    while not staging.exists() and process.poll() is None:
        time.sleep(0.0005)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process, tmp_path / "run")
    assert stopped.exit_code == 143, stopped.explain()
    assert {inspect(each, None).state for each in checkpoints_in(stopped.folder)} == {"good"}
    assert not list(stopped.folder.glob(".saving-*"))
    ended = train(tmp_path, text_file, "run")
    last = f"checkpoint-{STEPS}"
    assert list(differences(twin.folder, ended.folder, tmp_path, checkpoint=last)) == []


STEPS = 40


def arguments(folder: Path, text_file: Path, name: str) -> list[str]:
    fixed = (f"data.path={text_file}", f"hydra.run.dir={folder / name}", f"tracking.run_name={name}")
    limits = (f"train.max_steps={STEPS}", "checkpoint.save_steps=20", "checkpoint.save_total_limit=1")
    return [*LARGER, *fixed, *limits, "train.logging_steps=20", preloaded.INPROCESS]


def train(folder: Path, text_file: Path, name: str) -> Run:
    run = finish(preloaded.start(folder, *arguments(folder, text_file, name)), folder / name)
    assert run.exit_code == 0, run.explain()
    return run


@pytest.mark.parametrize("in_background", ["true", "false"])
def test_a_checkpoint_without_gathered_weights_holds_the_shards_alone_and_is_gone_on_from(
    in_background: str, tmp_path: Path, text_file: Path
) -> None:
    ungathered = (
        "stage.stage3_gather_16bit_weights_on_model_save=false",
        "checkpoint.save_final_model=false",
    )
    fixed = (f"data.path={text_file}", "tracking.enabled=false", f"hydra.run.dir={tmp_path / 'run'}")
    settings = (*LARGER, "stage=3", *ungathered, *fixed, f"checkpoint.async_save={in_background}")
    run = preloaded.zpipe(tmp_path, *settings, "train.max_steps=2")
    assert run.exit_code == 0, run.explain()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    assert inspect(checkpoint, None).state == "good"
    assert not list(checkpoint.glob("*.safetensors"))
    longer = preloaded.zpipe(tmp_path, *settings, "train.max_steps=4")
    assert longer.exit_code == 0, longer.explain()
    assert [step for step, _ in longer.series("loss")][-1] == 4
    (_, first), *_ = longer.series("learning_rate")
    assert first > 0, "the schedule of 2 steps had ended at 0"
