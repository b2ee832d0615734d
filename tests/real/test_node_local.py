"""Checkpoints on the local disks of two hosts: each has its part, and the run goes on from what both have."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hosts import Host, can_make_hosts, two_hosts
from tests.support.process import SMALL, Run, finish, losses, wait_for_step, zpipe
from zpipe.checkpoints.folders import checkpoints_in, step_of
from zpipe.runfolder.folder import RunFolder, private_name

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not can_make_hosts(), reason="network namespaces need root and iproute2"),
]

STEPS = 40
SETTINGS = (
    *(text for text in SMALL if not text.startswith(("train.max_steps", "checkpoint="))),
    f"train.max_steps={STEPS}",
    "checkpoint=default",
    "checkpoint.save_steps=5",
    "tracking=none",
)


@dataclass
class Pair:
    """A run on two hosts, each with a disk of its own at the same path."""

    hosts: tuple[Host, Host]
    cwd: Path
    text_file: Path
    stage: int

    @property
    def folder(self) -> Path:
        return self.cwd / "run"

    @property
    def disk(self) -> Path:
        return self.cwd / "disk"

    def home(self, host: Host) -> Path:
        return host.disk(self.disk) / private_name(self.folder)

    def steps(self, host: Host) -> list[int]:
        return [step_of(each) or 0 for each in checkpoints_in(self.home(host))]

    def start(self) -> "Started":
        self.disk.mkdir(exist_ok=True)
        nodes = ("launcher.nodes=2", f"launcher.master_addr={self.hosts[0].address}")
        local = ("checkpoint.node_local=true", f"checkpoint.node_local_path={self.disk}")
        given = (*SETTINGS, *nodes, *local, f"stage={self.stage}", "launcher.node_timeout_s=10")
        given = (*given, f"data.path={self.text_file}", f"hydra.run.dir={self.folder}")
        second = self.hosts[1].start(self.cwd, *given, "launcher.node_rank=1", disk=self.disk)
        return Started(self.folder, self.hosts[0].start(self.cwd, *given, disk=self.disk), second)


@dataclass
class Started:
    folder: Path
    first: "subprocess.Popen[str]"
    second: "subprocess.Popen[str]"

    def finish(self) -> tuple[Run, Run]:
        return finish(self.first, self.folder), finish(self.second, self.folder)


@pytest.fixture
def pair(text_file: Path, tmp_path: Path) -> Iterator[Pair]:
    with two_hosts() as hosts:
        yield Pair(hosts, tmp_path, text_file, stage=3)


def test_a_run_goes_on_from_the_newest_checkpoint_of_which_every_host_has_its_part(pair: Pair) -> None:
    lose_a_host(pair)
    assert not list(pair.folder.glob("checkpoint-*"))
    for rank, host in enumerate(pair.hosts):
        newest = checkpoints_in(pair.home(host))[0]
        assert shards(newest) == {rank}
    refused_without_the_disk(pair)
    damaged = damage_newest(pair)
    first, second = pair.start().finish()
    assert (first.exit_code, second.exit_code) == (0, 0), first.explain() + second.explain()
    assert f"checkpoint-{damaged} on this node is passed over: changed" in second.stderr
    assert f"goes on from step {damaged - 5}, of which every node has its part" in first.stderr
    assert losses(pair.folder) == losses_of_twin(pair)[damaged - 5 :]


def lose_a_host(pair: Pair) -> None:
    """After both have saved a few times."""
    started = pair.start()
    wait_for_step(started.first, pair.folder)
    while min(len(pair.steps(host)) for host in pair.hosts) < 3:
        time.sleep(0.05)
    pair.hosts[1].lose_power()
    first, second = started.finish()
    assert (first.exit_code, second.exit_code) == (15, -9), first.explain()


def shards(checkpoint: Path) -> set[int]:
    names = (file.name for file in checkpoint.rglob("*zero_pp_rank_*_optim_states.pt"))
    return {int(name.partition("rank_")[2].partition("_")[0]) for name in names}


def refused_without_the_disk(pair: Pair) -> None:
    own = pair.hosts[1].disk(pair.disk)
    aside = own.rename(own.with_name("aside"))
    first, second = pair.start().finish()
    assert (first.exit_code, second.exit_code) == (2, 2), first.explain() + second.explain()
    assert "no checkpoint is intact on every node (node 0: " in first.stderr
    assert "node 1: none" in first.stderr
    shutil.rmtree(own)
    aside.rename(own)


def damage_newest(pair: Pair) -> int:
    """Changes one byte of the newest checkpoint on the second host; returns its step."""
    newest = checkpoints_in(pair.home(pair.hosts[1]))[0]
    file = next(newest.rglob("*_optim_states.pt"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    step = step_of(newest)
    assert step is not None
    return step


def losses_of_twin(pair: Pair) -> list[float]:
    """Of an unbroken run with two processes on one machine."""
    cwd = pair.cwd / "twin"
    cwd.mkdir()
    plain = (*SETTINGS, f"stage={pair.stage}", f"data.path={pair.text_file}")
    run = zpipe(cwd, *plain, "launcher.nproc_per_node=2")
    assert run.exit_code == 0, run.explain()
    assert RunFolder(run.folder).attempt.number == 1
    return losses(run.folder)
