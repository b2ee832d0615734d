"""However a run is stopped, its processes end and MLflow tells the truth."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.process import SMALL, Run, processes_mentioning, start, zpipe
from tests.support.store import Store

pytestmark = pytest.mark.real


def wait_for_step(process: subprocess.Popen[str], folder: Path, seconds: float = 120) -> None:
    """Until the worker trains."""
    deadline = time.monotonic() + seconds
    events = folder / "events.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if events.exists() and '"event": "metrics"' in events.read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the run did not come to its first step")


def endless(tmp_path: Path, text_file: Path, *more: str) -> subprocess.Popen[str]:
    return start(
        tmp_path,
        *SMALL,
        "train.max_steps=100000",
        f"data.path={text_file}",
        f"hydra.run.dir={tmp_path / 'run'}",
        *more,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_tree_and_the_run_is_killed(
    number: signal.Signals, code: int, text_file: Path, tmp_path: Path
) -> None:
    process = endless(tmp_path, text_file, "launcher.nproc_per_node=2")
    wait_for_step(process, tmp_path / "run")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stdout + stderr
    assert processes_mentioning(str(tmp_path / "run")) == []
    assert Store(tmp_path).only_run().info.status == "KILLED"


def test_a_killed_rank_fails_the_run(text_file: Path, tmp_path: Path) -> None:
    process = endless(tmp_path, text_file)
    wait_for_step(process, tmp_path / "run")
    (worker,) = processes_mentioning(f"-u -m zpipe.train {tmp_path / 'run'}")
    os.kill(worker.pid, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 4, stdout + stderr
    assert processes_mentioning(str(tmp_path / "run")) == []
    assert Store(tmp_path).only_run().info.status == "FAILED"


def test_workers_do_not_outlive_a_killed_parent(text_file: Path, tmp_path: Path) -> None:
    process = endless(tmp_path, text_file)
    wait_for_step(process, tmp_path / "run")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while processes_mentioning(str(tmp_path / "run")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_mentioning(str(tmp_path / "run")) == []


def test_two_runs_side_by_side_do_not_meet(libaio: None, text_file: Path, tmp_path: Path) -> None:
    """One machine, one swap path, one store, two ranks each."""
    common = (
        *SMALL,
        "stage=3",
        "offload=nvme",
        f"offload.nvme_path={tmp_path / 'nvme'}",
        f"data.path={text_file}",
    )
    folders = [tmp_path / "one", tmp_path / "two"]
    running = [
        start(tmp_path, *common, "launcher.nproc_per_node=2", f"hydra.run.dir={folder}") for folder in folders
    ]
    outputs = [process.communicate(timeout=300) for process in running]
    losses = []
    for folder, process, (stdout, stderr) in zip(folders, running, outputs, strict=True):
        assert process.returncode == 0, stdout + stderr
        losses.append(Run(0, stdout, stderr, folder).series("loss"))
    assert losses[0] == losses[1]
    assert [run.info.status for run in Store(tmp_path).runs()] == ["FINISHED"] * 2


def test_a_failing_worker_fails_the_run_with_its_reason(text_file: Path, tmp_path: Path) -> None:
    """A learning-rate schedule that transformers refuses at the start of the training."""
    run = zpipe(
        tmp_path,
        *SMALL,
        "scheduler=cosine",
        "+scheduler.lr_scheduler_kwargs.no_such_argument=1",
        f"data.path={text_file}",
    )
    assert run.exit_code == 4, run.explain()
    assert "no_such_argument" in run.result["reason"]
    assert "Traceback" not in run.stderr
    assert Store(tmp_path).only_run().info.status == "FAILED"
