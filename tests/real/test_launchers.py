"""The launchers on two ranks of this machine: the same run, and no process left behind."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.process import (
    SMALL,
    finish,
    losses,
    processes_mentioning,
    start,
    verb,
    wait_for_step,
    worker_of,
)
from zpipe.hydra_text import quoted

pytestmark = pytest.mark.real

OTHERS = ("deepspeed", "accelerate")
HOSTILE = "two words; $(touch ran) 'é"
"""Name of a run folder."""


def arguments(launcher: str, text_file: Path, folder: Path) -> tuple[str, ...]:
    chosen = (f"launcher={launcher}", "launcher.nproc_per_node=2", f"data.path={text_file}")
    return (*SMALL, *chosen, "tracking=none", f"hydra.run.dir={quoted(str(folder))}")


@pytest.mark.parametrize("launcher", OTHERS)
def test_losses_are_those_of_torchrun_also_in_a_folder_with_a_hostile_name(
    launcher: str, losses_of_two_ranks: list[float], text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / HOSTILE
    run = finish(start(tmp_path, *arguments(launcher, text_file, folder)), folder)
    assert run.exit_code == 0, run.explain()
    assert losses(folder) == losses_of_two_ranks
    assert not (tmp_path / "ran").exists()
    assert len(run.attempt.rank_logs("stderr")) == 2


def test_the_printed_command_of_a_plan_trains_when_a_shell_runs_it(
    losses_of_two_ranks: list[float], text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / HOSTILE
    plan = verb(tmp_path, "plan", *arguments("accelerate", text_file, folder), folder=folder)
    assert plan.exit_code == 0, plan.explain()
    command = plan.stdout.partition("\ncommand\n")[2].partition("\n\n")[0]
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert losses(folder) == losses_of_two_ranks
    assert not (tmp_path / "ran").exists()


def test_a_killed_rank_is_named_under_deepspeeds_launcher(text_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(tmp_path, *arguments("deepspeed", text_file, folder), "train.max_steps=4000")
    wait_for_step(process, folder)
    worker_of(folder, 1).kill()
    run = finish(process, folder)
    assert run.exit_code == 15, run.explain()
    assert (run.result["failed_rank"], run.result["ending"]) == (1, "rank_died")
    assert "rank 1 was killed by SIGKILL" in run.result["reason"]


@pytest.mark.parametrize("launcher", OTHERS)
def test_sigterm_ends_every_process(launcher: str, text_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(tmp_path, *arguments(launcher, text_file, folder), "train.max_steps=4000")
    wait_for_step(process, folder)
    sent = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    run = finish(process, folder)
    assert run.exit_code == 143, run.explain()
    assert processes_mentioning(str(folder)) == []
    assert time.monotonic() - sent < 20


def test_a_watcher_that_is_killed_ends_the_run_under_deepspeeds_launcher(
    text_file: Path, tmp_path: Path
) -> None:
    """DeepSpeed's runner then ends with exit code 0."""
    folder = tmp_path / "run"
    process = start(tmp_path, *arguments("deepspeed", text_file, folder), "train.max_steps=4000")
    wait_for_step(process, folder)
    (watcher,) = processes_mentioning("-m deepspeed.launcher.launch")
    watcher.kill()
    run = finish(process, folder)
    assert run.exit_code == 15, run.explain()
    assert "the launcher ended before the ranks" in run.result["reason"]
    assert processes_mentioning(str(folder)) == []


def test_a_run_whose_rank_is_killed_is_started_again_from_its_checkpoint(
    text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    saving = (
        "train.max_steps=120",
        "checkpoint=default",
        "checkpoint.save_steps=20",
        "launcher.max_restarts=1",
    )
    process = start(tmp_path, *arguments("torchrun", text_file, folder), *saving)
    wait_for_step(process, folder)
    while not (folder / "checkpoint-20").exists():
        time.sleep(0.02)
    worker_of(folder, 1).kill()
    run = finish(process, folder)
    assert run.exit_code == 0, run.explain()
    assert "starting the run again, 1 restart left: rank 1 was killed by SIGKILL" in run.stderr
    assert run.result["attempts"] == 2
    assert run.events[0]["step"] >= 20
