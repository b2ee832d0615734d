"""Small disks and tight memory, made by the kernel where this machine allows it."""

import ctypes
import os
import resource
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[bool]:
    """Mounts a file system in memory on the folder; yields whether that was permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(argv, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def memory_group(limit: int) -> Iterator[Callable[[], None] | None]:
    """A control group of `limit` bytes; yields what a new process calls to enter it, or None."""
    for parent, file in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = parent / f"zpipe-test-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if _limited(group / file, limit):
                yield lambda group=group: _enter(group)  # type: ignore[misc]
                return
        finally:
            group.rmdir()
    yield None


def _limited(file: Path, limit: int) -> bool:
    try:
        file.write_text(str(limit))
    except OSError:
        return False
    return True


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def small_lock_limit() -> None:
    """Called in a new process: what it starts may lock 64 KiB in memory, like an ordinary user (`ulimit -l`).

    A program that root starts loses CAP_IPC_LOCK, which would lift the limit (linux/prctl.h).
    """
    drop_from_bounding_set, ipc_lock = 24, 14
    if os.getuid() == 0:
        ctypes.CDLL(None).prctl(drop_from_bounding_set, ipc_lock, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (2**16, 2**16))
