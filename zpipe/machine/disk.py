"""Disk space."""

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Disk space available to an ordinary user; 0 if the folder does not exist."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def free_bytes_for(folder: Path) -> int:
    """The same for a folder that need not exist yet."""
    return free_bytes(next(each for each in (folder, *folder.parents) if each.exists()))
