"""Runs that are killed, stopped or damaged go on to the same end: a small share of the campaigns, and stops.

The trainings, the kills and the signals are real. The campaigns compare every file, bit by bit.
"""

import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from campaigns.twins import differences
from tests.support import preloaded
from tests.support.process import REPOSITORY, SMALL, Run, environment, finish, start, wait_for_step, zpipe
from tests.support.store import Store, put_store
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
        "checkpoint=default",
        f"checkpoint.save_steps={STEPS}",
        f"train.max_steps={STEPS}",
        "train.logging_steps=10",
        f"data.path={text_file}",
    )


ON_TWO_RANKS = ("stage=3", "launcher.nproc_per_node=2")
ON_ONE_RANK = ("stage=2", "launcher.nproc_per_node=1", "batch.gradient_accumulation_steps=2")


@dataclass(frozen=True)
class Stopped:
    cwd: Path
    settings: tuple[str, ...]
    twin: Run
    """On two ranks, not stopped."""
    run: Run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, text_file: Path) -> Stopped:
    """A run of two ranks, one of which was asked to stop; `copy` is a copy of its folder."""
    cwd, settings = put_store(empty_store, tmp_path_factory.mktemp("stopped")), overrides(text_file)
    twin = zpipe(cwd, *settings, *ON_TWO_RANKS, folder="twin")
    assert twin.exit_code == 0, twin.explain()
    process = start(cwd, *settings, *ON_TWO_RANKS, f"hydra.run.dir={cwd / 'run'}")
    wait_for_step(process, cwd / "run")
    children = psutil.Process(process.pid).children(recursive=True)
    next(child for child in children if is_rank(child, "1")).send_signal(signal.SIGUSR1)
    run = finish(process, cwd / "run")
    shutil.copytree(run.folder, cwd / "copy", symlinks=True)
    return Stopped(cwd, settings, twin, run)


def test_run_whose_rank_is_asked_to_stop_saves(stopped: Stopped) -> None:
    assert stopped.run.exit_code == Exit.TERMINATED, stopped.run.explain()
    assert "SIGUSR1 to rank 1, saved at step" in stopped.run.result["reason"]


def test_stopped_run_goes_on_to_the_same_end(stopped: Stopped) -> None:
    again = zpipe(stopped.cwd, *stopped.settings, *ON_TWO_RANKS)
    assert again.exit_code == 0, again.explain()
    assert read_start(RunFolder(again.folder).numbered(2)).step > 0
    assert list(differences(stopped.twin.folder, again.folder, stopped.cwd, f"checkpoint-{STEPS}")) == []
    assert {run.info.status for run in Store(stopped.cwd).runs()} == {"FINISHED"}


def test_stopped_run_goes_on_with_one_process_at_another_stage_to_the_same_losses(stopped: Stopped) -> None:
    more = (*ON_ONE_RANK, "tracking=none", "resume.trust=true")
    ended = preloaded.zpipe(stopped.cwd, *stopped.settings, *more, folder="copy")
    assert ended.exit_code == 0, ended.explain()
    assert "is distributed anew for 1 process at stage 2" in ended.stdout + ended.stderr
    losses, expected = dict(ended.series("loss")), dict(stopped.twin.series("loss"))
    assert len(losses) > 1
    assert all(abs(losses[step] - expected[step]) < 1e-4 for step in losses)


def is_rank(process: psutil.Process, rank: str) -> bool:
    arguments = process.cmdline()
    return "-u" in arguments and "zpipe.train" in arguments and process.environ().get("RANK") == rank
