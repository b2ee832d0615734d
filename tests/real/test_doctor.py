"""`zpipe doctor --launch` on two hosts: who can take part, and which host cannot."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Host, can_make_hosts, two_hosts
from tests.support.process import SMALL, Run, finish, processes_mentioning, verb

pytestmark = pytest.mark.real
needs_hosts = pytest.mark.skipif(not can_make_hosts(), reason="network namespaces need root and iproute2")

Pair = tuple[Host, Host]
NVME = ("stage=3", "offload=nvme")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Pair]:
    with two_hosts() as pair:
        yield pair


def doctor(hosts: Pair, text_file: Path, cwd: Path, *more: str, **second: object) -> tuple[Run, Run]:
    folder = cwd / "run"
    nodes = ("launcher.nodes=2", f"launcher.master_addr={hosts[0].address}", f"hydra.run.dir={folder}")
    given = ("doctor", "--launch", *SMALL, *nodes, f"data.path={text_file}", *more)
    other = hosts[1].start(cwd, *given, "launcher.node_rank=1", **second)  # type: ignore[arg-type]
    first = finish(hosts[0].start(cwd, *given), folder)
    second_run = finish(other, folder)
    assert not folder.exists()
    assert processes_mentioning(str(folder)) == []
    return first, second_run


@needs_hosts
@pytest.mark.parametrize("backend", ["static", "c10d"])
def test_hosts_that_fit_are_listed_with_their_clocks_and_the_all_reduce(
    hosts: Pair, text_file: Path, tmp_path: Path, backend: str
) -> None:
    first, second = doctor(hosts, text_file, tmp_path, f"launcher.rdzv_backend={backend}")
    assert (first.exit_code, second.exit_code) == (0, 0), first.explain() + second.explain()
    rows = {line.split()[1]: line for line in first.stdout.splitlines() if line[:1].isdigit()}
    assert rows.keys() == {"host-a", "host-b"}
    assert all("GB/s" in row for row in rows.values())
    assert " s " in rows["host-b"]
    assert "all-reduce of 64.0 MiB over 2 ranks" in first.stdout


@needs_hosts
def test_a_host_without_the_data_is_named(hosts: Pair, text_file: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.txt").write_text(text_file.read_text())
    first, second = doctor(hosts, data / "train.txt", tmp_path, hides=data)
    assert (first.exit_code, second.exit_code) == (2, 2), first.explain() + second.explain()
    assert "node 1 (host-b): data.path: " in first.stderr


@needs_hosts
def test_a_host_whose_nvme_is_not_mounted_is_named(hosts: Pair, text_file: Path, tmp_path: Path) -> None:
    nvme = tmp_path / "disks" / "nvme"
    nvme.mkdir(parents=True)
    more = (*NVME, f"offload.nvme_path={nvme}")
    first, _ = doctor(hosts, text_file, tmp_path, *more, hides=nvme.parent)
    assert first.exit_code in (2, 3), first.explain()  # 2 where tmpfs has no O_DIRECT
    assert f"node 1 (host-b): offload.nvme_path={nvme} does not exist there" in first.stderr
    assert "node 0 (host-a)" not in first.stderr
    assert list(nvme.iterdir()) == []


@needs_hosts
def test_a_host_without_room_for_swap_files_is_named(hosts: Pair, text_file: Path, tmp_path: Path) -> None:
    nvme = tmp_path / "nvme"
    nvme.mkdir()
    first, second = doctor(
        hosts, text_file, tmp_path, *NVME, f"offload.nvme_path={nvme}", hides=nvme, room="4k"
    )
    assert (first.exit_code, second.exit_code) == (2, 2), first.explain() + second.explain()
    assert "node 1 (host-b): memory.check: the disk is predicted to need" in first.stderr
    assert "host-a" in first.stdout


@needs_hosts
def test_an_unplugged_host_is_named_within_a_minute(hosts: Pair, text_file: Path, tmp_path: Path) -> None:
    hosts[1].unplug()
    begin = time.monotonic()
    try:
        first, second = doctor(hosts, text_file, tmp_path)
    finally:
        hosts[1].plug_in()
    assert (first.exit_code, second.exit_code) == (2, 2), first.explain() + second.explain()
    assert "node 1 (host-b): launcher.master_addr: node 0 cannot be reached at port 29500" in first.stderr
    assert time.monotonic() - begin < 60


@needs_hosts
def test_a_host_that_is_unplugged_while_the_ranks_start_is_named_within_its_timeout(
    hosts: Pair, text_file: Path, tmp_path: Path
) -> None:
    begin = time.monotonic()

    def unplug() -> None:
        while not list((tmp_path / "run" / ".doctor").glob("attempt-1/rank1.preflight.json")):
            time.sleep(0.05)
        hosts[1].unplug()

    thread = threading.Thread(target=unplug)
    thread.start()
    try:
        first, second = doctor(hosts, text_file, tmp_path, "launcher.node_timeout_s=10")
    finally:
        thread.join()
        hosts[1].plug_in()
    assert (first.exit_code, second.exit_code) == (3, 3), first.explain() + second.explain()
    assert "host-b" in first.stderr.partition("The run would not work")[2]
    assert time.monotonic() - begin < 10 + 60 + 20


def test_processes_of_one_machine_are_measured_and_nothing_is_left_beside_a_run(
    text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    run = verb(
        tmp_path,
        *("doctor", "--launch", *SMALL, f"data.path={text_file}", f"hydra.run.dir={folder}"),
        "launcher.nproc_per_node=2",
        folder=folder,
    )
    assert run.exit_code == 0, run.explain()
    assert "all-reduce of 1.0 MiB over 2 ranks" in run.stdout
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
