"""Runs on the hosts of a hostfile, which one zpipe and DeepSpeed's runner reach over ssh."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.process import SMALL, Run, finish, losses, wait_for_step
from tests.support.ssh_hosts import SshHost, Zpipe, can_ssh, ssh_hosts
from zpipe.runfolder.folder import RunFolder

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not can_ssh(), reason="needs root, iproute2, openssh-server and pdsh"),
]

Pair = tuple[SshHost, SshHost]
ENDLESS = ("train.max_steps=100000",)
RESUMED = ("train.max_steps=300", "checkpoint=default", "checkpoint.save_steps=50")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ssh_hosts(tmp_path_factory.mktemp("ssh")) as pair:
        yield pair


@pytest.fixture
def start(hosts: Pair, text_file: Path, tmp_path: Path) -> "Start":
    return Start(hosts, text_file, tmp_path)


class Start:
    """Starts zpipe on the first host, once or again in the same run folder."""

    def __init__(self, hosts: Pair, text_file: Path, cwd: Path) -> None:
        self.folder, self._hosts, self._cwd = cwd / "run", hosts, cwd
        self.data = text_file
        (cwd / "hostfile").write_text("".join(f"{host.name} slots=1\n" for host in hosts))

    def __call__(self, *more: str, env: dict[str, str] | None = None) -> Zpipe:
        return self._hosts[0].start(
            self._cwd,
            *SMALL,
            "launcher=deepspeed",
            "launcher.hostfile=hostfile",
            f"data.path={self.data}",
            f"hydra.run.dir={self.folder}",
            *more,
            env=env or {},
        )

    def finish(self, *more: str, env: dict[str, str] | None = None) -> Run:
        return finish(self(*more, env=env), self.folder)


def test_losses_on_two_hosts_are_those_of_one_machine_with_two_processes(
    hosts: Pair, start: Start, losses_of_two_ranks: list[float]
) -> None:
    run = start.finish("tracking=none")
    assert run.exit_code == 0, run.explain()
    assert losses(run.folder) == losses_of_two_ranks
    assert [len(run.attempt.rank_logs("stderr", rank)) for rank in (0, 1)] == [1, 1]
    assert nothing_runs(hosts)


def nothing_runs(hosts: Pair, within: float = 20.0) -> bool:
    """Whether the hosts have no process of a run, at the latest after so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(host.processes() for host in hosts):
            return True
        time.sleep(0.2)
    return False
