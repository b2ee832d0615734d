"""Host memory against the limit that really applies: the machine's, or a control group's below it.

Upstream: Linux, Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class HostMemory:
    used: int
    """Bytes that cannot be taken back by dropping file caches."""
    limit: int
    """Bytes."""
    oom_kills: int
    """Processes that the kernel has killed for want of memory, under this limit, since it was set up."""


@dataclass(frozen=True)
class _Files:
    """Where one version of control groups keeps its figures."""

    limit: str
    usage: str
    kills: str
    caches: str
    """The line of memory.stat that counts what can be dropped."""


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control", "total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "memory.events", "inactive_file")


class HostMemoryReader:
    """Finds the control group of this process once; the workers live in it too."""

    def __init__(self, proc: Path = Path("/proc"), mounts: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._group = _tightest(_groups(proc, mounts))

    def read(self) -> HostMemory:
        """The figures now. Takes well below a millisecond."""
        machine = psutil.virtual_memory()
        if self._group is not None:
            folder, files = self._group
            limit = _number(folder / files.limit)
            if limit is not None and limit < machine.total:
                used = (_number(folder / files.usage) or 0) - _entry(folder / "memory.stat", files.caches)
                return HostMemory(used, limit, _entry(folder / files.kills, "oom_kill"))
        kills = _entry(self._proc / "vmstat", "oom_kill")
        return HostMemory(machine.total - machine.available, machine.total, kills)


def _groups(proc: Path, mounts: Path) -> list[tuple[Path, _Files]]:
    """The memory group of this process and those above it, the innermost first."""
    for line in _lines(proc / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return [(folder, _V1) for folder in _upwards(mounts / "memory", path)]
        if number == "0" and (mounts / "cgroup.controllers").exists():
            return [(folder, _V2) for folder in _upwards(mounts, path)]
    return []


def _upwards(root: Path, path: str) -> list[Path]:
    """In a container the path may be the host's; then the root of the mount is the container's own group."""
    folder = root / path.lstrip("/")
    folders = [each for each in (folder, *folder.parents) if each.is_relative_to(root)]
    return [each for each in folders if each.is_dir()]


def _tightest(groups: list[tuple[Path, _Files]]) -> tuple[Path, _Files] | None:
    limited = [
        (limit, group) for group in groups if (limit := _number(group[0] / group[1].limit)) is not None
    ]
    return min(limited, key=lambda each: each[0])[1] if limited else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    """The number in the file; None where there is none, as for `max`."""
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _entry(file: Path, name: str) -> int:
    """The number behind a name in a file of names and numbers; 0 where it is missing."""
    for line in _lines(file):
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0
