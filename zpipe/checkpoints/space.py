"""Whether a checkpoint fits on the disk."""

import shutil
from pathlib import Path

from humanize import naturalsize


def room_for(run_dir: Path, bytes_needed: int) -> str | None:
    """Why there is no room for a checkpoint, in a sentence; None if there is. Raises OSError.

    Space that is reserved for root does not count.
    """
    free = shutil.disk_usage(run_dir).free
    if free >= bytes_needed:
        return None
    needed, left = (naturalsize(count, binary=True) for count in (bytes_needed, free))
    return f"a checkpoint needs {needed}, and the file system of {run_dir} has {left} left"
