"""Disk space, and whether a run folder can be created and written to."""

import os
import shutil
from pathlib import Path

from humanize import naturalsize

from zpipe.problems import Problem

MIN_FREE_BYTES = 16 * 2**20
"""Free disk space at the run folder below which a run is not started."""


def free_bytes(folder: Path) -> int:
    """Disk space available to an ordinary user; 0 if the folder does not exist."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def free_bytes_for(folder: Path) -> int:
    """The same for a folder that need not exist yet."""
    return free_bytes(next(each for each in (folder, *folder.parents) if each.exists()))


def unwritable(run_dir: Path) -> list[Problem]:
    """Why the run folder cannot be created or written to, if so. Checks without writing anything."""
    there = next(folder for folder in (run_dir, *run_dir.parents) if folder.exists())
    allowed, fix = "a folder on a disk with free space", "hydra.run.dir=/path/to/run"
    if not there.is_dir():
        return [Problem("hydra.run.dir", str(run_dir), f"{there} is a file", allowed, fix)]
    # access(2) also detects read-only file systems and immutable folders.
    if not os.access(there, os.W_OK | os.X_OK):
        return [Problem("hydra.run.dir", str(run_dir), f"{there} cannot be written to", allowed, fix)]
    free = free_bytes(there)
    if free < MIN_FREE_BYTES:
        reason = f"the disk of {there} has {naturalsize(free, binary=True)} left"
        return [Problem("hydra.run.dir", str(run_dir), reason, allowed, fix)]
    return []
