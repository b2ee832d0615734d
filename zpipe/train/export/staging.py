"""A new folder that is complete or absent."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from humanize import naturalsize

from zpipe.checkpoints.digests import sync_folder, sync_tree
from zpipe.machine.disk import free_bytes
from zpipe.problems import Problem, Refusal

STAGING_PREFIX = ".exporting-"
_SMALL_FILES_BYTES = 64 << 20
"""Room for the files beside the weights: tokenizers take up to some 40 MB."""


def require_room(target: Path, weights_bytes: int) -> None:
    """Raises OSError if the file system of the target has too little room for a folder with these weights."""
    free, needed = free_bytes(target.parent), weights_bytes + _SMALL_FILES_BYTES
    if free < needed:
        needs, has = (naturalsize(count, binary=True) for count in (needed, free))
        lacking = f"the export needs {needs}, and {target.parent} has {has} left"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {lacking}", str(target.parent))


@contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """Yields a folder beside the target, which is renamed to it at the end, or removed on any exception.

    Raises Refusal if the target has come into being meanwhile, OSError if the disk fails.
    """
    staging = Path(tempfile.mkdtemp(prefix=f"{STAGING_PREFIX}{target.name[:64]}-", dir=target.parent))
    try:
        staging.chmod(0o755)
        yield staging
        sync_tree(staging)
        _rename(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _rename(staging: Path, target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise Refusal([Problem("--output", str(target), "this folder was made meanwhile", "a new folder")])
    staging.rename(target)
