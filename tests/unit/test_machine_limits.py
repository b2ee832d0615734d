"""Usable memory and cores under control groups of both versions, and without any."""

import os
from pathlib import Path

import psutil
import pytest

from zpipe.machine.cores import usable_cores
from zpipe.machine.describe import hardware
from zpipe.machine.hardware import detect
from zpipe.machine.host_memory import HostMemoryReader

GIB = 2**30


def group(folder: Path, **files: str) -> None:
    """Writes files of a control group; `__` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def proc(tmp_path: Path, line: str) -> Path:
    """A /proc in which this process is in the control group of `line`."""
    group(tmp_path / "proc" / "self", cgroup=f"5:freezer:/x\n{line}\n")
    (tmp_path / "proc" / "vmstat").write_text("pgfault 1\noom_kill 3\n")
    return tmp_path / "proc"


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def test_memory_limit_of_version_2_is_the_tightest_ancestors(tmp_path: Path) -> None:
    mounts = tmp_path / "cgroup"
    group(mounts, cgroup__controllers="memory")
    stat = f"anon 1\ninactive_file {GIB}\n"
    kills = "low 0\noom 2\noom_kill 2\n"
    limited = {"memory__current": str(2 * GIB), "memory__events": kills, "memory__stat": stat}
    group(mounts / "job", memory__max=str(3 * GIB), **limited)
    group(mounts / "job" / "step", memory__max="max", **limited)
    read = HostMemoryReader(proc(tmp_path, "0::/job/step"), mounts).read()
    assert (read.used, read.limit, read.oom_kills) == (GIB, 3 * GIB, 2)


def test_memory_limit_of_version_1(tmp_path: Path) -> None:
    mounts = tmp_path / "cgroup"
    group(
        mounts / "memory" / "job",
        memory__limit_in_bytes=str(2 * GIB),
        memory__usage_in_bytes=str(GIB),
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        memory__stat="total_inactive_file 0\n",
    )
    group(mounts / "memory", memory__limit_in_bytes="9223372036854771712")
    read = HostMemoryReader(proc(tmp_path, "4:memory:/job"), mounts).read()
    assert (read.used, read.limit, read.oom_kills) == (GIB, 2 * GIB, 1)


def test_without_a_group_the_machine_is_the_memory_limit(tmp_path: Path) -> None:
    reader = HostMemoryReader(proc(tmp_path, "4:memory:/gone"), tmp_path / "none")
    read = reader.read()
    assert read.limit == reader.limit == psutil.virtual_memory().total
    assert 0 < read.used < read.limit
    assert read.oom_kills == 3


@pytest.mark.parametrize(("quota", "cores"), [("250000 100000", 3), ("20000 100000", 1), ("max 100000", 8)])
def test_cpu_quota_of_version_2(tmp_path: Path, eight_cores: None, quota: str, cores: int) -> None:
    mounts = tmp_path / "cgroup"
    group(mounts, cgroup__controllers="cpu")
    group(mounts / "job", cpu__max=quota)
    group(mounts / "job" / "step", cpu__max="max 100000")
    assert usable_cores(proc(tmp_path, "0::/job/step"), mounts) == cores


@pytest.mark.parametrize(("quota", "cores"), [("400000", 4), ("1000", 1), ("-1", 8), ("9000000", 8)])
def test_cpu_quota_of_version_1(tmp_path: Path, eight_cores: None, quota: str, cores: int) -> None:
    mounts = tmp_path / "cgroup"
    group(mounts / "cpu" / "job", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert usable_cores(proc(tmp_path, "4:cpu,cpuacct:/job"), mounts) == cores


def test_without_a_quota_the_affinity_mask_counts(tmp_path: Path, eight_cores: None) -> None:
    assert usable_cores(proc(tmp_path, "4:cpu:/gone"), tmp_path / "none") == 8


def test_the_whole_package_reports_the_same_limits() -> None:
    found, read = detect(), HostMemoryReader().read()
    assert found.memory == read.limit <= psutil.virtual_memory().total
    assert 0 < read.used <= read.limit
    assert found.cores == usable_cores() <= len(os.sched_getaffinity(0))
    assert f"{found.cores} of {os.cpu_count()} cores usable" in hardware(Path.cwd())
