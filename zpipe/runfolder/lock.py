"""Exclusive use of a run folder by one process: a kernel lock, released when the process dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(file: Path, patience: float = 0.0) -> Iterator[bool]:
    """Holds the lock inside the block, or yields False if another process has it all these seconds.

    On a file system without locks it yields True: no other process is assumed.
    """
    from filelock import FileLock, Timeout  # planning takes no lock

    lock = FileLock(file)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):
        yield True
        return
    try:
        yield True
    finally:
        lock.release()
