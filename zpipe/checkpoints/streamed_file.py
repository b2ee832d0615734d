"""A file that is digested, and begins to reach the disk, while it is written."""

import ctypes
import os
from pathlib import Path

import xxhash

_BLOCK_BYTES = 1 << 24
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)
_START_WRITING_BACK = 2
"""SYNC_FILE_RANGE_WRITE of linux/fs.h: waits only while the queue of the disk is full."""


class StreamedFile:
    """A new file, written from its beginning to its end by one thread.

    `write` keeps an error for `finish`, because C++ code calls it through which no exception may pass.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = xxhash.xxh3_128()
        self._bytes = 0
        self._error: OSError | None = None
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, data: bytes | memoryview) -> int:
        """Returns the number of bytes, also after an error."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _BLOCK_BYTES):
            if self._error is None:
                self._write_block(view[start : start + _BLOCK_BYTES])
        return len(view)

    def flush(self) -> None:
        """Nothing is held back. Programs that write to any file call this."""

    def finish(self) -> tuple[int, str]:
        """Waits until it is on the disk; returns its bytes and its XXH3-128. Raises OSError that names it."""
        try:
            if self._error is None:
                os.fsync(self._descriptor)
        except OSError as error:
            self._error = error
        finally:
            self.close()
        if self._error is not None:
            raise OSError(self._error.errno, self._error.strerror, str(self._path)) from self._error
        return self._bytes, self._digest.hexdigest()

    def close(self) -> None:
        """For a file that is given up; doing it again is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_block(self, block: memoryview) -> None:
        written = 0
        try:
            while written < len(block):
                written += os.write(self._descriptor, block[written:])
        except OSError as error:
            self._error = error
            return
        self._digest.update(block)
        _write_back(self._descriptor, self._bytes, len(block))
        self._bytes += len(block)


def _write_back(descriptor: int, offset: int, count: int) -> None:
    """Lets the disk begin. Where the system cannot do this, fsync does all at the end."""
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(descriptor, ctypes.c_int64(offset), ctypes.c_int64(count), _START_WRITING_BACK)
