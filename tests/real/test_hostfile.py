"""Runs on the hosts of a hostfile, which one zpipe and DeepSpeed's runner reach over ssh."""

import shutil
import signal
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from tests.support.process import SMALL, Run, environment, finish, losses, wait_for_step
from tests.support.ssh_hosts import SshHost, Zpipe, can_ssh, ssh_hosts
from tests.support.store import Store
from zpipe.hydra_text import quoted

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


def test_a_host_that_cannot_be_reached_is_named_before_anything_starts(hosts: Pair, start: Start) -> None:
    hosts[1].host.unplug()
    try:
        began = time.monotonic()
        run = start.finish("tracking=none")
    finally:
        hosts[1].host.plug_in()
    assert run.exit_code == 2, run.explain()
    assert "node 1 (host-b): ssh: " in run.stderr
    assert "host-a)" not in run.stderr
    assert time.monotonic() - began < 60
    assert not run.attempt.launcher_log.exists()
    assert nothing_runs(hosts)


def test_all_that_a_host_lacks_is_named_before_anything_starts(
    hosts: Pair, start: Start, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    start.data = Path(shutil.copy(start.data, data))
    other = tmp_path / "other" / "zpipe-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: zpipe\nVersion: 9.9\n")
    installed = metadata.distribution("zpipe").locate_file("zpipe-0.1.0.dist-info")
    hosts[1].lose_power()
    hosts[1].boot(f"mount --bind {other} {installed}")
    run = start.finish("tracking=none")
    assert run.exit_code == 2, run.explain()
    assert "node 1 (host-b): zpipe: the plan was made with another value" in run.stderr
    hosts[1].lose_power()
    hosts[1].boot(f"mount -t tmpfs none {data}")
    run = start.finish("tracking=none")
    hosts[1].lose_power()
    hosts[1].boot()
    assert run.exit_code == 2, run.explain()
    assert "node 1 (host-b): data.path: " in run.stderr
    assert not run.attempt.launcher_log.exists()


HOSTILE = "two words; $(touch executed) `id` \"'%n%h \\ é"


def test_a_rank_has_its_variables_as_given_and_its_death_ends_the_run_with_its_name(
    hosts: Pair, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "a %n $(touch executed) `id` b"
    variables = (f"launcher.env.NOTE={quoted(HOSTILE)}", "launcher.env.API_KEY=key-planted")
    secrets = {
        "HF_TOKEN": "hf_plantedplanted",
        "MLFLOW_TRACKING_PASSWORD": "pw-planted",
        "NCCL_NOTE": "a b; $(touch executed)",
    }
    paths = {"PYTHONPATH": f"{path}:{environment()['PYTHONPATH']}"}
    zpipe = start("tracking=none", *variables, *ENDLESS, env={**secrets, **paths})
    wait_for_step(zpipe, start.folder)
    of_the_rank = hosts[1].worker().environ()
    of_the_watcher = psutil.Process(hosts[1].worker().ppid()).environ()
    assert of_the_watcher["PYTHONPATH"] == of_the_rank["PYTHONPATH"]
    assert of_the_rank["PYTHONPATH"].startswith(f"{path}:")
    for name, value in {"NOTE": HOSTILE, "API_KEY": "key-planted", **secrets}.items():
        assert of_the_rank.get(name) == (None if name.startswith("MLFLOW") else value)
    words = [word for host in hosts for each in host.processes() for word in each.cmdline()]
    assert "planted" not in " ".join(words)
    hosts[1].worker().kill()
    run = finish(zpipe, start.folder)
    assert run.exit_code == 15, run.explain()
    assert run.result["reason"].startswith("node 1 (host-b): rank 1 was killed by SIGKILL")
    assert nothing_runs(hosts)
    assert "planted" not in run.attempt.launcher_log.read_text()
    assert not list(tmp_path.rglob("executed")) + list(Path("/").glob("executed"))


def test_a_host_that_is_cut_off_is_given_up_and_the_run_goes_on_with_it(
    hosts: Pair, start: Start, tmp_path: Path
) -> None:
    given = (*RESUMED, "launcher.node_timeout_s=10")
    zpipe = start(*given)
    wait_for_step(zpipe, start.folder)
    while not list(start.folder.glob("checkpoint-*")):
        time.sleep(0.1)
    hosts[1].host.unplug()
    run = finish(zpipe, start.folder)
    ended_there = nothing_runs(hosts)
    hosts[1].host.plug_in()
    assert run.exit_code == 15, run.explain()
    assert "node 1 (host-b): " in run.result["reason"]
    assert ended_there
    run = start.finish(*given)
    assert run.exit_code == 0, run.explain()
    steps = [step for step, _ in run.series("loss")]
    assert steps == [*range(steps[0], 301)]
    assert steps[0] > 1
    assert Store(tmp_path).only_run().info.status == "FINISHED"


def test_sigterm_saves_and_ends_no_launch_of_another_run(hosts: Pair, start: Start) -> None:
    zpipe = start("tracking=none", *RESUMED, "train.max_steps=100000")
    wait_for_step(zpipe, start.folder)
    other = hosts[1].other_launch()
    try:
        zpipe.send_signal(signal.SIGTERM)
        run = finish(zpipe, start.folder)
        assert run.result["ending"] == "terminated", run.explain()
        assert "saved at step" in run.result["reason"]
        assert [each.pid for each in hosts[1].processes()] == [other.pid]
        assert not hosts[0].processes()
    finally:
        other.kill()


def test_a_host_whose_agent_is_killed_is_lost(hosts: Pair, start: Start) -> None:
    zpipe = start("tracking=none", *ENDLESS)
    wait_for_step(zpipe, start.folder)
    hosts[1].agent().kill()
    run = finish(zpipe, start.folder)
    assert run.exit_code == 15, run.explain()
    assert run.result["reason"].startswith("node 1 (host-b): the connection to it ended")
    assert nothing_runs(hosts)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_zpipe_ends_no_host_keeps_a_process(
    number: signal.Signals, hosts: Pair, start: Start
) -> None:
    zpipe = start("tracking=none", *ENDLESS)
    wait_for_step(zpipe, start.folder)
    zpipe.send_signal(number)
    assert nothing_runs(hosts)
    run = finish(zpipe, start.folder)
    assert run.exit_code == (130 if number == signal.SIGINT else 137), run.explain()


def test_a_rank_that_is_stopped_on_the_other_host_is_found(hosts: Pair, start: Start) -> None:
    zpipe = start("tracking=none", *ENDLESS, "launcher.hang_timeout_s=5")
    wait_for_step(zpipe, start.folder)
    hosts[1].worker().suspend()
    run = finish(zpipe, start.folder)
    assert run.result["ending"] == "hang", run.explain()
    assert run.result["failed_rank"] == 1
    assert run.result["reason"].startswith("node 1 (host-b): ")
    assert nothing_runs(hosts)
