"""The content of files as digests, and content that survives a power cut."""

import errno
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock

import xxhash

from zpipe.runfolder.foreign_files import is_regular, open_regular

OnBytes = Callable[[int], None]
"""Told how many more bytes have been read."""

_BLOCK_BYTES = 1 << 22
_THREADS = 4
"""More would make a disk seek; fewer leave a fast one idle."""


def digest_of(file: Path, on_bytes: OnBytes | None = None) -> str:
    """XXH3-128 of a regular file, in hex. Raises OSError that names the file."""
    digest = xxhash.xxh3_128()
    block = memoryview(bytearray(_BLOCK_BYTES))
    try:
        with open_regular(file) as stream:
            while count := os.readv(stream.fileno(), [block]):
                digest.update(block[:count])
                if on_bytes is not None:
                    on_bytes(count)
    except OSError as error:
        # A failed read, unlike a failed open, does not say of which file.
        raise OSError(error.errno, error.strerror, str(file)) from error
    return digest.hexdigest()


def digests_of(files: Iterable[Path], on_bytes: OnBytes | None = None) -> dict[Path, str]:
    """The digest of each file. `on_bytes` is called from other threads, by one at a time.

    The first file that cannot be read ends it: raises OSError that names this file.
    """
    paths = list(files)
    report = None if on_bytes is None else partial(_locked, Lock(), on_bytes)
    with ThreadPoolExecutor(_THREADS, "digest") as pool:
        return dict(zip(paths, pool.map(partial(digest_of, on_bytes=report), paths), strict=True))


def sync_tree(folder: Path) -> None:
    """Waits until the files and folders below, and the folder itself, are on the disk. Raises OSError."""
    for place, _, files in os.walk(folder, topdown=False, onerror=_raise):
        for file in filter(is_regular, (Path(place, name) for name in files)):
            with open_regular(file) as stream:
                os.fsync(stream.fileno())
        sync_folder(Path(place))


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Some network file systems cannot do this for folders.
            raise
    finally:
        os.close(descriptor)


def _locked(lock: Lock, on_bytes: OnBytes, count: int) -> None:
    with lock:
        on_bytes(count)


def _raise(error: OSError) -> None:
    raise error
