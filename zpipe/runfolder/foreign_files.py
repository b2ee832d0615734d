"""Reads files that anybody may have put there: regular files alone, no links, never more than a limit.

A run folder may have come in an archive. A link in it could name a file of the reader, a FIFO would block,
and a device has no end.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 1 << 28
"""A plan has some hundred kilobytes; only events, samples and logs are larger, and they are read in parts."""
MOST_LINE_BYTES = 1 << 24
"""A longer line is skipped."""


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading. Raises OSError, also for a link, a FIFO, a device or a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def is_regular(path: Path) -> bool:
    """Whether there is a regular file; a link to one is none."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def is_below(path: Path, folder: Path) -> bool:
    """Whether the path leads into the folder without any link on the way."""
    while path != folder:
        if path.is_symlink() or path == path.parent:
            return False
        path = path.parent
    return True


def read_bytes(path: Path, limit: int = MOST_BYTES) -> bytes:
    """The content of a regular file. Raises OSError, also if there is more than the limit."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(27, f"larger than {limit:,} bytes", str(path))
    return content


def read_text(path: Path, limit: int = MOST_BYTES) -> str:
    """The same as text. Raises OSError, or UnicodeDecodeError if it is not UTF-8."""
    return read_bytes(path, limit).decode()


def read_end(path: Path, limit: int) -> str:
    """The last bytes of a regular file as text, damaged characters replaced. Raises OSError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - limit))
        return file.read(limit).decode(errors="replace")
