"""Counts what each thread does with the files below a folder, as a shared file system would see it."""

import os
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

KINDS = {
    "open": "opened",
    "os.listdir": "listed",
    "os.scandir": "listed",
    "os.mkdir": "changed",
    "os.rename": "changed",
    "os.remove": "changed",
    "os.rmdir": "changed",
    "os.symlink": "changed",
}
"""What Python reports to audit hooks; `stat` is not among it, and is counted as `looked`."""

Operations = dict[str, Counter[str]]
"""By the name of the thread: how many files it opened, folders it listed, names it changed or looked at."""

_active: list[tuple[str, Operations]] = []


@contextmanager
def counted(folder: Path) -> Iterator[Operations]:
    """The counts grow inside the block."""
    _install()
    found: Operations = defaultdict(Counter)
    _active.append((str(folder), found))
    with patch("os.stat", _counting(os.stat)), patch("os.lstat", _counting(os.lstat)):
        try:
            yield found
        finally:
            _active.clear()


def _count(path: object, kind: str) -> None:
    if _active and isinstance(path, str | bytes | os.PathLike):
        folder, found = _active[0]
        if os.fsdecode(path).startswith(folder):
            found[threading.current_thread().name][kind] += 1


def _counting(function: Any) -> Any:
    def counted_function(path: Any, *arguments: Any, **options: Any) -> Any:
        _count(path, "looked")
        return function(path, *arguments, **options)

    return counted_function


_installed: list[bool] = []


def _install() -> None:
    """Once: an audit hook cannot be removed."""
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in KINDS and arguments:
        _count(arguments[0], KINDS[event])
