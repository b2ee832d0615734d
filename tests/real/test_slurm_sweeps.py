"""Sweeps as job arrays of a real Slurm cluster."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import SMALL, Run, finish, start, sweep, verb, wait_for_step
from tests.support.slurm import can_run_slurm, cluster, slurm
from tests.support.store import Store, put_store
from zpipe.runfolder.folder import RunFolder

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not can_run_slurm(), reason="a cluster needs root, Debian's slurm-wlm and munge"),
]

Environment = dict[str, str]
SIX = ("train.max_steps=2", "train.seed=1,2,3,4,5,6", "launcher.array_parallelism=2")
LONG = ("train.max_steps=4,200", "checkpoint=default", "checkpoint.save_steps=20")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster") as found:
        yield found


def overrides(text_file: Path, *more: str) -> tuple[str, ...]:
    return (*SMALL, "launcher=slurm", f"data.path={text_file}", *more)


def points(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "points.json").read_text())
    return found


@pytest.fixture(scope="module")
def six(
    environment: Environment,
    tmp_path_factory: pytest.TempPathFactory,
    text_file: Path,
    empty_store: Path,
) -> Run:
    cwd = put_store(empty_store, tmp_path_factory.mktemp("six"))
    return sweep(cwd, *overrides(text_file, *SIX), env=environment)


def test_every_point_is_a_task_of_one_array_and_finishes(six: Run) -> None:
    assert six.exit_code == 0, six.explain()
    assert "submitted 6 points as Slurm job array 1" in six.stderr
    assert [point["ending"] for point in points(six.folder)] == ["finished"] * 6
    assert (six.folder / "sweep_report.html").exists()


def test_no_more_points_run_at_once_than_array_parallelism(six: Run) -> None:
    assert "2 running, 4 pending (JobArrayTaskLimit)" in six.stderr
    spans = [(run.info.start_time, run.info.end_time) for run in children(six)]
    assert max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans) <= 2


def children(six: Run) -> list[Any]:
    return [run for run in Store(six.folder.parent).runs() if "mlflow.parentRunId" in run.data.tags]


def test_every_point_is_a_child_of_the_run_of_the_sweep(six: Run) -> None:
    (parent,) = [run for run in Store(six.folder.parent).runs() if "zpipe.sweep_dir" in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in children(six)} == {parent.info.run_id}
    assert {run.info.run_name for run in children(six)} == {f"seed={number}" for number in range(1, 7)}


def test_the_scripts_of_an_array_pass_shellcheck(six: Run) -> None:
    checker = shutil.which("shellcheck")
    assert checker is not None
    scripts = [six.folder / "array-1.sh", six.folder / "0" / "launch" / "job.sh"]
    subprocess.run([checker, *scripts], check=True)


def test_a_point_whose_task_was_cancelled_goes_on_from_its_checkpoint_when_the_sweep_is_resumed(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    process = start_long(environment, text_file, folder)
    wait_for_checkpoint(folder / "1")
    early = verb(tmp_path, "sweep", "resume", str(folder), folder=folder, env=environment)
    assert early.exit_code == 2, early.explain()
    assert "points of this sweep still wait or run in this Slurm job" in early.stderr
    cancel(environment, 1)
    first = finish(process, folder)
    assert [point["ending"] for point in points(folder)] == ["finished", "preempted"], first.explain()
    again = verb(tmp_path, "sweep", "resume", str(folder), folder=folder, env=environment)
    assert again.exit_code == 0, again.explain()
    assert "submitted 1 points as Slurm job array" in again.stderr
    assert [point["ending"] for point in points(folder)] == ["finished", "finished"]
    steps = [step for step, _ in Run(0, "", "", folder / "1").series("loss")]
    assert RunFolder(folder / "1").attempt.number == 2
    assert steps == [*range(steps[0], 201)]
    assert steps[0] > 1


def test_a_task_is_requeued_alone_and_a_sweep_that_was_left_is_not_started_twice(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    process = start_long(environment, text_file, folder)
    cancel(environment, 1, "--signal=USR1")
    process.send_signal(signal.SIGINT)
    left = finish(process, folder)
    assert left.exit_code == 130, left.explain()
    early = verb(tmp_path, "sweep", "resume", str(folder), folder=folder, env=environment)
    assert early.exit_code == 2, early.explain()
    wait_for_queue(environment)
    again = verb(tmp_path, "sweep", "resume", str(folder), folder=folder, env=environment)
    assert again.exit_code == 0, again.explain()
    assert [point["ending"] for point in points(folder)] == ["finished", "finished"]
    assert [RunFolder(folder / name).attempt.number for name in ("0", "1")] == [1, 2]


def start_long(environment: Environment, text_file: Path, folder: Path) -> "subprocess.Popen[str]":
    """A sweep whose second point trains."""
    given = overrides(text_file, *LONG, "tracking=none", f"hydra.sweep.dir={folder}")
    process = start(folder.parent, "-m", *given, env=environment)
    wait_for_step(process, folder / "1")
    return process


def wait_for_queue(environment: Environment) -> None:
    while slurm(environment, "squeue", "--noheader"):
        time.sleep(0.5)


def wait_for_checkpoint(run: Path) -> None:
    while not list(run.glob("checkpoint-*")):
        time.sleep(0.1)


def cancel(environment: Environment, task: int, *options: str) -> None:
    shown = slurm(environment, "squeue", "--noheader", "--array", "--format=%F_%K")
    (name,) = [line for line in shown.split() if line.endswith(f"_{task}")]
    slurm(environment, "scancel", *options, name)


def test_without_waiting_resuming_collects_what_the_points_have_left(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    given = overrides(text_file, "train.seed=1,2", "tracking=none", "launcher.wait=false")
    run = sweep(tmp_path, *given, env=environment)
    assert run.exit_code == 0, run.explain()
    assert f"zpipe sweep resume {folder}" in run.stderr
    wait_for_queue(environment)
    again = verb(tmp_path, "sweep", "resume", str(folder), folder=folder, env=environment)
    assert again.exit_code == 0, again.explain()
    assert [point["ending"] for point in points(folder)] == ["finished", "finished"]
    assert not (folder / "array-2.sh").exists()
