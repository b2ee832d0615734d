"""Runs in the jobs of a real Slurm cluster: two nodes on this machine."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import (
    SMALL,
    Run,
    finish,
    losses,
    processes_mentioning,
    start,
    verb,
    wait_for_step,
    zpipe,
)
from tests.support.slurm import can_run_slurm, cluster, slurm
from tests.support.store import Store
from zpipe.hydra_text import quoted
from zpipe.runfolder.folder import RunFolder

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not can_run_slurm(), reason="a cluster needs root, Debian's slurm-wlm and munge"),
]

Environment = dict[str, str]
ON_TWO_NODES = (*SMALL, "launcher=slurm", "launcher.nodes=2", "launcher.slurm.time=10")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster") as found:
        yield found


def test_a_run_on_two_nodes_has_the_losses_of_one_machine_also_in_a_folder_with_a_hostile_name(
    environment: Environment, losses_of_two_ranks: list[float], text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "two words $(touch ran) 'é %j"
    given = (*ON_TWO_NODES, f"data.path={text_file}", "tracking=none", f"hydra.run.dir={quoted(str(folder))}")
    run = finish(start(tmp_path, *given, env=environment), folder)
    assert run.exit_code == 0, run.explain()
    assert losses(folder) == losses_of_two_ranks
    assert "job 1: running" in run.stderr
    assert not (tmp_path / "ran").exists()
    assert [file.name for file in folder.glob("slurm-*.out")] == ["slurm-1.out"]
    again = finish(start(tmp_path, *given, env=environment), folder)
    assert again.exit_code == 0, again.explain()
    assert "this run has finished" in again.stderr
    changed = finish(start(tmp_path, *given, "train.seed=7", env=environment), folder)
    assert changed.exit_code == 2, changed.explain()
    assert "train.seed=7: this run was started with 42" in changed.stderr
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, RunFolder(folder).launch / "job.sh"], check=True)


def test_a_wrong_partition_is_refused_in_slurms_words_with_the_ones_there_are(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    given = (*ON_TWO_NODES, f"data.path={text_file}", "tracking=none", "launcher.slurm.partition=gpu")
    run = zpipe(tmp_path, *given, env=environment)
    assert run.exit_code == 2, run.explain()
    assert "launcher.slurm.partition=gpu: Slurm says: invalid partition specified: gpu" in run.stderr
    assert "allowed: partitions debug" in run.stderr


def test_the_signal_before_a_time_limit_saves_requeues_and_goes_on_as_one_run(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    steps = (
        "train.max_steps=600",
        "train.logging_steps=1",
        "checkpoint=default",
        "checkpoint.save_steps=5000",
    )
    given = (*ON_TWO_NODES, *steps, f"data.path={text_file}", f"hydra.run.dir={tmp_path / 'run'}")
    process = start(tmp_path, *given, env=environment)
    wait_for_step(process, tmp_path / "run")
    job = slurm(environment, "squeue", "--noheader", "--format=%A").strip()
    slurm(environment, "scancel", "--signal=USR1", job)
    run = finish(process, tmp_path / "run")
    assert run.exit_code == 0, run.explain()
    assert RunFolder(run.folder).attempt.number == 2
    assert run.result["ending"] == "finished"
    store = Store(tmp_path)
    recorded = store.only_run()
    assert recorded.info.status == "FINISHED"
    assert [step for step, _ in store.series(recorded.info.run_id, "loss")] == [*range(1, 601)]


def test_a_cancelled_job_ends_the_run_and_is_not_requeued(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    given = (*ON_TWO_NODES, "train.max_steps=100000", f"data.path={text_file}", "tracking=none")
    process = start(tmp_path, *given, f"hydra.run.dir={tmp_path / 'run'}", env=environment)
    wait_for_step(process, tmp_path / "run")
    slurm(environment, "scancel", slurm(environment, "squeue", "--noheader", "--format=%A").strip())
    run = finish(process, tmp_path / "run")
    assert run.exit_code == 143, run.explain()
    assert slurm(environment, "squeue", "--noheader") == ""
    assert gone(str(tmp_path / "run"))


def test_a_run_whose_node_is_drained_and_goes_down_goes_on_where_it_was_on_another_node(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    saves = ("train.max_steps=300", "checkpoint=default", "checkpoint.save_steps=50")
    given = (*SMALL, "launcher=slurm", *saves, f"data.path={text_file}", f"hydra.run.dir={tmp_path / 'run'}")
    process = start(tmp_path, *given, env=environment)
    wait_for_step(process, tmp_path / "run")
    (node,) = slurm(environment, "squeue", "--noheader", "--format=%N").split()
    set_state(environment, node, "drain")
    while not list((tmp_path / "run").glob("checkpoint-*")):  # a drained node lets its jobs go on
        time.sleep(0.1)
    set_state(environment, node, "down")
    try:
        run = finish(process, tmp_path / "run")
    finally:
        set_state(environment, node, "resume")
    assert run.exit_code == 0, run.explain()
    assert RunFolder(run.folder).attempt.number == 2
    assert run.series("loss")[0][0] > 1
    store = Store(tmp_path)
    recorded = store.only_run()
    assert recorded.info.status == "FINISHED"
    assert [step for step, _ in store.series(recorded.info.run_id, "loss")] == [*range(1, 301)]


def set_state(environment: Environment, node: str, state: str) -> None:
    slurm(environment, "scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")


def gone(text: str) -> bool:
    """Whether the processes of the job end within 20 seconds."""
    deadline = time.monotonic() + 20
    while processes_mentioning(text) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not processes_mentioning(text)


def test_without_waiting_the_job_is_only_submitted(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    given = (*ON_TWO_NODES, f"data.path={text_file}", "tracking=none", "launcher.wait=false")
    run: Run = zpipe(tmp_path, *given, env=environment)
    assert run.exit_code == 0, run.explain()
    job = slurm(environment, "squeue", "--noheader", "--format=%A").strip()
    assert f"submitted as Slurm job {job}" in run.stderr
    slurm(environment, "scancel", job)


def test_doctor_checks_the_nodes_in_a_job_and_leaves_nothing(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "two words $(touch ran) 'é %j"
    given = (*ON_TWO_NODES, f"data.path={text_file}", f"hydra.run.dir={quoted(str(folder))}")
    run = verb(tmp_path, "doctor", "--launch", *given, folder=folder, env=environment)
    assert run.exit_code == 0, run.explain()
    assert "all-reduce of 64.0 MiB over 2 ranks" in run.stdout
    assert not folder.exists()
    away = tmp_path / "no-such-data.txt"
    late = f"launcher.slurm.setup=['mv {text_file} {away}']"
    run = verb(tmp_path, "doctor", "--launch", *given, late, folder=folder, env=environment)
    away.rename(text_file)
    assert run.exit_code == 2, run.explain()
    assert "data.path" in run.stdout


def test_a_secret_does_not_come_into_the_script_of_a_job(
    environment: Environment, text_file: Path, tmp_path: Path
) -> None:
    given = (*ON_TWO_NODES, f"data.path={text_file}", "launcher.env.HF_TOKEN=hf_abcdefghijklmnopqrstuv")
    run = zpipe(tmp_path, *given, env=environment)
    assert run.exit_code == 2, run.explain()
    assert "the script of the job would contain this secret" in run.stderr
    assert not any("hf_abcdef" in file.read_text() for file in tmp_path.rglob("*") if file.is_file())
