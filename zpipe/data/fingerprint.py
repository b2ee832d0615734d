"""A digest of files, from which a run that goes on sees that they have changed."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_WHOLE_BYTES = 8 * 2**20
"""Of all files together; larger data is read in samples, so that a plan of it takes no longer."""
_SAMPLE_BYTES = 2**16
_SAMPLES = _WHOLE_BYTES // _SAMPLE_BYTES


def fingerprint(files: Iterable[Path]) -> str | None:
    """Of the names, the sizes and the contents: of large data, 128 samples of 64 KiB. None without files.

    Where the files are, and when they were written, does not count. Raises OSError.
    """
    sizes = {file: file.stat().st_size for file in sorted(files)}
    if not sizes:
        return None
    root = os.path.commonpath([file.parent for file in sizes])
    digest = hashlib.blake2b(digest_size=16)
    for file, size in sizes.items():
        name = file.relative_to(root).as_posix().encode(errors="surrogateescape")
        digest.update(b"%d %b %d\n" % (len(name), name, size))
    for file, start, count in _parts(sizes):
        with file.open("rb") as opened:
            opened.seek(start)
            digest.update(opened.read(count))
    return digest.hexdigest()


def _parts(sizes: dict[Path, int]) -> Iterator[tuple[Path, int, int]]:
    """What is read: file, first byte and number of bytes."""
    total = sum(sizes.values())
    if total <= _WHOLE_BYTES:
        yield from ((file, 0, size) for file, size in sizes.items())
        return
    wanted = [number * (total - _SAMPLE_BYTES) // (_SAMPLES - 1) for number in range(_SAMPLES)]
    start = 0
    for file, size in sizes.items():
        end = start + size
        yield from ((file, place - start, _SAMPLE_BYTES) for place in wanted if start <= place < end)
        start = end
