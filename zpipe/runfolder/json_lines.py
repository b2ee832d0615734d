"""Files with one JSON value a line, appended to with single writes so that a kill loses one line at most."""

import errno
import json
import math
import os
import threading
from pathlib import Path
from typing import Any

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK
"""A link in a foreign folder is not followed, and a FIFO is not waited for."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class LineWriter:
    """Appends lines to a file that it keeps open; threads may share it."""

    def __init__(self, path: Path) -> None:
        self._descriptor, self._is_incomplete = _open_for_append(path)
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Appends one line. Raises OSError if the disk does not accept all of it; later lines stay valid."""
        with self._lock:
            line = _encode(text, self._is_incomplete)
            self._is_incomplete = True
            _write_all(self._descriptor, line)
            self._is_incomplete = False

    def sync(self) -> None:
        """Waits until every line so far is on the disk: for the few that must survive a power cut."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def append_line(path: Path, value: Any) -> None:
    """Appends a JSON value with a single write; several processes may do so at once.

    An empty line may appear in between, after a line that seemed incomplete while it was being written.
    """
    descriptor, is_incomplete = _open_for_append(path)
    try:
        _write_all(descriptor, _encode(encode_json(value), is_incomplete))
    finally:
        os.close(descriptor)


def encode_json(value: Any) -> str:
    """JSON in which non-finite numbers are the strings "nan", "inf" and "-inf"."""
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(with_named_numbers(value))


def with_named_numbers(value: Any) -> Any:
    """The value with every non-finite float replaced by its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: with_named_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_named_numbers(item) for item in value]
    return value


def _open_for_append(path: Path) -> tuple[int, bool]:
    """The descriptor, and whether the last line is incomplete because its writer was killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | _FLAGS, 0o644)
    size = os.fstat(descriptor).st_size
    return descriptor, size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _encode(text: str, after_incomplete: bool) -> bytes:
    # A surrogate from a file name that is not UTF-8 would make the whole line unwritable.
    return (b"\n" if after_incomplete else b"") + text.encode(errors="backslashreplace") + b"\n"


def _write_all(descriptor: int, line: bytes) -> None:
    written = os.write(descriptor, line)
    if written < len(line):
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {written} of {len(line)} bytes written")
