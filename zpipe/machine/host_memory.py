"""Host memory in use and the limit that applies: the machine's, or that of a control group below it."""

import os
from dataclasses import dataclass
from pathlib import Path

from zpipe.machine.cgroup import MOUNTS, PROC, Group, entry, groups


@dataclass(frozen=True)
class HostMemory:
    used: int
    """Bytes that cannot be freed by dropping file caches."""
    limit: int
    """Bytes."""
    oom_kills: int
    """Processes that the kernel has killed to free memory under this limit, since it was set up."""

    @property
    def free(self) -> int:
        """Bytes that are left under the limit."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class _Files:
    """Names of the files of one cgroup version."""

    limit: str
    usage: str
    kills: str
    caches: str
    """The line of memory.stat that counts file caches that can be dropped."""


_FILES = {
    1: _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control", "total_inactive_file"),
    2: _Files("memory.max", "memory.current", "memory.events", "inactive_file"),
}


def machine_memory() -> int:
    """Bytes of physical memory, whatever this process may use of it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class HostMemoryReader:
    """Finds the control group of this process once; the workers are in it too."""

    def __init__(self, proc: Path = PROC, mounts: Path = MOUNTS) -> None:
        self._proc = proc
        self._group = _tightest(groups("memory", proc, mounts))

    @property
    def limit(self) -> int:
        """Bytes of host memory that this process and its children can use together."""
        return min(machine_memory(), _limit(self._group) or machine_memory())

    def read(self) -> HostMemory:
        """The current values. Takes well below a millisecond."""
        limit = self.limit
        if self._group is not None and limit < machine_memory():
            folder, files = self._group.folder, _FILES[self._group.version]
            used = (self._group.number(files.usage) or 0) - entry(folder / "memory.stat", files.caches)
            return HostMemory(used, limit, entry(folder / files.kills, "oom_kill"))
        import psutil  # planning needs the limit alone, and psutil takes longer to import than that takes

        machine = psutil.virtual_memory()
        used = machine.total - machine.available
        return HostMemory(used, machine.total, entry(self._proc / "vmstat", "oom_kill"))


def _limit(group: Group | None) -> int | None:
    return None if group is None else group.number(_FILES[group.version].limit)


def _tightest(candidates: list[Group]) -> Group | None:
    limited = [(limit, group) for group in candidates if (limit := _limit(group)) is not None]
    return min(limited, key=lambda each: each[0])[1] if limited else None
