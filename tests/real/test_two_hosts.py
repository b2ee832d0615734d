"""Runs on two hosts, started by hand on both: what they share is the run folder."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Host, can_make_hosts, two_hosts
from tests.support.process import (
    SMALL,
    Run,
    finish,
    losses,
    processes_mentioning,
    wait_for_step,
    worker_of,
)
from zpipe.runfolder.folder import RunFolder

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not can_make_hosts(), reason="network namespaces need root and iproute2"),
]

Pair = tuple[Host, Host]
ENDLESS = ("train.max_steps=100000",)
RESUMED = ("train.max_steps=300", "checkpoint=default", "checkpoint.save_steps=50")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Pair]:
    with two_hosts() as pair:
        yield pair


def arguments(hosts: Pair, text_file: Path, folder: Path) -> tuple[str, ...]:
    nodes = ("launcher.nodes=2", f"launcher.master_addr={hosts[0].address}")
    return (*SMALL, *nodes, f"data.path={text_file}", "tracking=none", f"hydra.run.dir={folder}")


class Started:
    """zpipe on both hosts."""

    def __init__(self, hosts: Pair, cwd: Path, text_file: Path, *more: str, **second: object) -> None:
        self.folder = cwd / "run"
        given = (*arguments(hosts, text_file, self.folder), *more)
        self.second = hosts[1].start(cwd, *given, "launcher.node_rank=1", **second)  # type: ignore[arg-type]
        self.first = hosts[0].start(cwd, *given)

    def finish(self) -> tuple[Run, Run]:
        return finish(self.first, self.folder), finish(self.second, self.folder)

    def wait_for_step(self) -> None:
        wait_for_step(self.first, self.folder)


@pytest.mark.parametrize(
    ("launcher", "logs"),
    [("torchrun", "*/attempt_0/0/stderr.log"), ("deepspeed", "*_rank1.log")],
)
def test_losses_on_two_hosts_are_those_of_one_machine_with_two_processes(
    launcher: str, logs: str, hosts: Pair, losses_of_two_ranks: list[float], text_file: Path, tmp_path: Path
) -> None:
    first, second = Started(hosts, tmp_path, text_file, f"launcher={launcher}").finish()
    assert first.exit_code == 0, first.explain()
    assert second.exit_code == 0, second.explain()
    assert losses(first.folder) == losses_of_two_ranks
    assert "node 1: finished" in second.stderr
    attempt = RunFolder(first.folder).attempt
    assert [note["host"] for note in notes(first.folder)] == ["host-a", "host-b"]
    assert len(attempt.rank_logs("stderr")) == 1
    assert list((attempt.path / "logs" / "node-1").glob(logs))


def notes(folder: Path) -> list[dict[str, str]]:
    attempt = RunFolder(folder).attempt
    return [json.loads(attempt.note(node).read_text()) for node in (0, 1)]


def test_a_host_without_the_data_is_named_before_anything_starts(
    hosts: Pair, text_file: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.txt").write_text(text_file.read_text())
    first, second = Started(hosts, tmp_path, data / "train.txt", hides=data).finish()
    assert (first.exit_code, second.exit_code) == (2, 2), first.explain() + second.explain()
    assert "node 1 (host-b): data.path: " in first.stderr
    assert not (RunFolder(first.folder).attempt.logs / "node-1").exists()


def test_a_host_with_another_version_is_named_before_anything_starts(
    hosts: Pair, text_file: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "other" / "zpipe-9.9.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: zpipe\nVersion: 9.9\n")
    path = os.pathsep.join([str(installed.parent), os.environ.get("PYTHONPATH", "")])
    first, second = Started(hosts, tmp_path, text_file, env={"PYTHONPATH": path}).finish()
    assert (first.exit_code, second.exit_code) == (2, 2), first.explain() + second.explain()
    assert "node 1 (host-b): zpipe: node 0 has another value" in first.stderr
    assert "zpipe=9.9: node 0 has another value" in second.stderr


def test_a_host_that_cannot_reach_the_other_is_named_before_anything_starts(
    hosts: Pair, text_file: Path, tmp_path: Path
) -> None:
    hosts[1].unplug()
    try:
        first, second = Started(hosts, tmp_path, text_file).finish()
    finally:
        hosts[1].plug_in()
    assert (first.exit_code, second.exit_code) == (2, 2), first.explain() + second.explain()
    assert "node 1 (host-b): launcher.master_addr: node 0 cannot be reached at port 29500" in first.stderr


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_a_rank_that_is_killed_on_the_other_host_ends_the_run_with_its_name(
    launcher: str, hosts: Pair, text_file: Path, tmp_path: Path
) -> None:
    started = Started(hosts, tmp_path, text_file, f"launcher={launcher}", *ENDLESS)
    started.wait_for_step()
    worker_of(started.folder, 1).kill()
    first, second = started.finish()
    assert (first.exit_code, second.exit_code) == (15, 15), first.explain() + second.explain()
    assert first.result["reason"].startswith("node 1 (host-b): rank 1 was killed by SIGKILL")
    assert processes_mentioning(str(started.folder)) == []


@pytest.fixture
def backwards(hosts: Pair) -> Pair:
    """Hosts that c10d, which sorts their addresses, numbers in the other order."""
    return hosts[1], hosts[0]


def test_c10d_numbers_nodes_otherwise_and_the_losses_are_the_same(
    backwards: Pair, losses_of_two_ranks: list[float], text_file: Path, tmp_path: Path
) -> None:
    first, second = Started(backwards, tmp_path, text_file, "launcher.rdzv_backend=c10d").finish()
    assert (first.exit_code, second.exit_code) == (0, 0), first.explain() + second.explain()
    assert losses(first.folder) == losses_of_two_ranks
    assert "warning: launcher.rdzv_backend: every agent loads pickles" in first.stderr


def test_under_c10d_a_killed_rank_is_named_with_its_host(
    backwards: Pair, text_file: Path, tmp_path: Path
) -> None:
    started = Started(backwards, tmp_path, text_file, *ENDLESS, "launcher.rdzv_backend=c10d")
    started.wait_for_step()
    worker = worker_of(started.folder, 1)
    assert worker.environ()["RANK"] == "0"
    worker.kill()
    first, second = started.finish()
    assert (first.exit_code, second.exit_code) == (15, 15), first.explain() + second.explain()
    assert first.result["reason"].startswith("node 1 (host-a): rank 1 was killed by SIGKILL")
    assert processes_mentioning(str(started.folder)) == []


def test_sigterm_on_the_other_host_saves_and_the_run_goes_on_from_there(
    hosts: Pair, text_file: Path, tmp_path: Path
) -> None:
    started = Started(hosts, tmp_path, text_file, *RESUMED)
    started.wait_for_step()
    started.second.send_signal(signal.SIGTERM)
    first, second = started.finish()
    assert first.result["ending"] == "preempted", first.explain()
    assert second.exit_code == first.exit_code
    first, second = Started(hosts, tmp_path, text_file, *RESUMED).finish()
    assert (first.exit_code, second.exit_code) == (0, 0), first.explain() + second.explain()
    assert goes_on(first)


def goes_on(run: Run) -> bool:
    """Whether the second attempt went on from a checkpoint, to the last step."""
    steps = [step for step, _ in run.series("loss")]
    return RunFolder(run.folder).attempt.number == 2 and steps == [*range(steps[0], 301)] and steps[0] > 1


def test_a_host_that_loses_power_is_given_up_and_the_run_goes_on_with_it(
    hosts: Pair, text_file: Path, tmp_path: Path
) -> None:
    started = Started(hosts, tmp_path, text_file, *RESUMED, "launcher.node_timeout_s=10")
    started.wait_for_step()
    while not list(started.folder.glob("checkpoint-*")):
        time.sleep(0.1)
    hosts[1].unplug()
    hosts[1].lose_power()
    first, second = started.finish()
    hosts[1].plug_in()
    assert (first.exit_code, second.exit_code) == (15, -9), first.explain()
    assert "node 1 (host-b): gave no sign of life" in first.result["reason"]
    first, second = Started(hosts, tmp_path, text_file, *RESUMED).finish()
    assert (first.exit_code, second.exit_code) == (0, 0), first.explain() + second.explain()
    assert goes_on(first)
