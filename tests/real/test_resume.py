"""Runs that are killed, stopped or damaged go on to the same end: a small share of the campaigns, and stops.

The trainings, the kills and the signals are real. The campaigns compare every file, bit by bit.
"""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from campaigns.twins import differences
from tests.support.process import REPOSITORY, SMALL, environment, finish, start, wait_for_step, zpipe
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


@pytest.mark.parametrize(
    ("cases", "kills"), [("stage 2, fp16", 4), ("stage 3, fp32", 3), ("stage 2, CPU offload", 2)]
)
def test_killed_runs_end_as_if_they_had_not_been_killed(cases: str, kills: int) -> None:
    done = campaign("campaigns.kills", f"--kills={kills}", f"--only={cases}", "--single-rank")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert ": equal" in done.stdout


def test_damaged_checkpoints_are_passed_over_by_name() -> None:
    done = campaign("campaigns.damage", "--ranks=1")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count("passed over") == 8
    assert "refused" in done.stdout


def overrides(stage: str, text_file: Path) -> tuple[str, ...]:
    return (
        *SMALL,
        f"stage={stage}",
        "launcher.nproc_per_node=2",
        "checkpoint=default",
        f"checkpoint.save_steps={STEPS}",
        f"train.max_steps={STEPS}",
        "train.logging_steps=10",
        f"data.path={text_file}",
    )


@pytest.mark.parametrize(("stage", "target"), [("2", "zpipe"), ("3", "one rank")])
def test_stopped_run_saves_and_goes_on_to_the_same_end(
    tmp_path: Path, empty_store: Path, text_file: Path, stage: str, target: str
) -> None:
    cwd = put_store(empty_store, tmp_path)
    settings = overrides(stage, text_file)
    twin = zpipe(cwd, *settings, folder="twin")
    assert twin.exit_code == 0, twin.explain()
    process = start(cwd, *settings, f"hydra.run.dir={cwd / 'run'}")
    wait_for_step(process, cwd / "run")
    stop(process, target)
    stopped = finish(process, cwd / "run")
    assert stopped.exit_code == Exit.TERMINATED, stopped.explain()
    assert "saved at step" in stopped.result["reason"]
    again = zpipe(cwd, *settings)
    assert again.exit_code == 0, again.explain()
    assert read_start(RunFolder(cwd / "run").numbered(2)).step > 0
    assert list(differences(cwd / "twin", cwd / "run", cwd, f"checkpoint-{STEPS}")) == []
    assert {run.info.status for run in Store(cwd).runs()} == {"FINISHED"}


def stop(process: "subprocess.Popen[str]", target: str) -> None:
    if target == "zpipe":
        process.send_signal(signal.SIGTERM)
        return
    last = [child for child in psutil.Process(process.pid).children(recursive=True) if is_rank(child, "1")]
    last[0].send_signal(signal.SIGUSR1)


def is_rank(process: psutil.Process, rank: str) -> bool:
    arguments = process.cmdline()
    return "-u" in arguments and "zpipe.train" in arguments and process.environ().get("RANK") == rank
