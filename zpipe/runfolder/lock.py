"""Who has a run folder to itself: a kernel lock, which dies with its process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def held(file: Path) -> Iterator[bool]:
    """Holds the lock meanwhile, or yields False if another process has it.

    Where the file system knows no locks, nobody else is assumed.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
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
