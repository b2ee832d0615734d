"""Runs that are killed, stopped or damaged go on to the same end: a small share of the campaigns, and stops.

The trainings, the kills and the signals are real. The campaigns compare every file, bit by bit.
"""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from campaigns.shapes import Campaign, Case, write_text
from campaigns.twins import differences
from tests.support.process import REPOSITORY, SMALL, environment, finish, start, wait_for_step, zpipe
from tests.support.store import Store, put_store
from zpipe.checkpoints.shape import Shape
from zpipe.exits import Exit
from zpipe.runfolder.attempt_start import read_start
from zpipe.runfolder.folder import RunFolder

pytestmark = pytest.mark.real

STEPS = 120


def campaign(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", *arguments]
    return subprocess.run(
        argv, cwd=REPOSITORY, env=environment(), capture_output=True, encoding="utf-8", check=False
    )


def test_killed_runs_end_as_if_they_had_not_been_killed() -> None:
    cases = ("stage 2, fp16", "stage 3, fp32", "stage 2, CPU offload")
    done = campaign("campaigns.kills", "--kills=9", "--single-rank", "--only", *cases)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "9 kills" in done.stdout


def test_damaged_checkpoints_are_passed_over_by_name() -> None:
    damages = ("truncated optimizer", "bit in the weights", "no manifest", "stale latest")
    done = campaign("campaigns.damage", "--ranks=1", "--only", *damages)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count("passed over") == len(damages)
    assert "refused" in done.stdout


def overrides(text_file: Path) -> tuple[str, ...]:
    return (
        *SMALL,
        "stage=3",
        "launcher.nproc_per_node=2",
        "checkpoint=default",
        f"checkpoint.save_steps={STEPS}",
        f"train.max_steps={STEPS}",
        "train.logging_steps=10",
        f"data.path={text_file}",
    )


def test_run_whose_rank_is_asked_to_stop_saves_and_goes_on_to_the_same_end(
    tmp_path: Path, empty_store: Path, text_file: Path
) -> None:
    cwd = put_store(empty_store, tmp_path)
    settings = overrides(text_file)
    twin = zpipe(cwd, *settings, folder="twin")
    assert twin.exit_code == 0, twin.explain()
    process = start(cwd, *settings, f"hydra.run.dir={cwd / 'run'}")
    wait_for_step(process, cwd / "run")
    children = psutil.Process(process.pid).children(recursive=True)
    next(child for child in children if is_rank(child, "1")).send_signal(signal.SIGUSR1)
    stopped = finish(process, cwd / "run")
    assert stopped.exit_code == Exit.TERMINATED, stopped.explain()
    assert "SIGUSR1 to rank 1, saved at step" in stopped.result["reason"]
    again = zpipe(cwd, *settings)
    assert again.exit_code == 0, again.explain()
    assert read_start(RunFolder(cwd / "run").numbered(2)).step > 0
    assert list(differences(cwd / "twin", cwd / "run", cwd, f"checkpoint-{STEPS}")) == []
    assert {run.info.status for run in Store(cwd).runs()} == {"FINISHED"}


def test_run_goes_on_with_one_process_at_another_stage_to_the_same_losses(
    tmp_path: Path, empty_store: Path
) -> None:
    cwd = put_store(empty_store, tmp_path)
    case = Case((Shape(2, 3), Shape(1, 2)))
    ((_, _, problem),) = Campaign(case, cwd, write_text(cwd / "train.jsonl")).results()
    assert problem == ""


def is_rank(process: psutil.Process, rank: str) -> bool:
    arguments = process.cmdline()
    return "-u" in arguments and "zpipe.train" in arguments and process.environ().get("RANK") == rank
