"""The folders of checkpoints: their names, what is in them, and what they take on the disk."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

# A name that only looks like a number of ours, such as checkpoint-007, is a folder of somebody else.
_NAME = re.compile(r"checkpoint-(0|[1-9][0-9]{0,17})")

STAGING_PREFIX = ".saving-"
"""Of a folder in which a checkpoint is being written."""
REMOVING_PREFIX = ".removing-"
"""Of a folder that is being deleted."""


def step_of(folder: Path) -> int | None:
    """The step in the name of a checkpoint folder; None for any other name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else None


def checkpoints_in(run_dir: Path, last: int | None = None) -> list[Path]:
    """The checkpoint folders of a run up to the last step, highest first; links are none. Raises OSError."""
    real = [
        (step, path)
        for step, path in _named(run_dir)
        if (last is None or step <= last) and path.is_dir() and not path.is_symlink()
    ]
    return [path for _, path in sorted(real, reverse=True)]


def named_in(run_dir: Path) -> list[Path]:
    """Everything with the name of a checkpoint, highest first, also links and files. Raises OSError."""
    return [path for _, path in sorted(_named(run_dir), reverse=True)]


def _named(run_dir: Path) -> list[tuple[int, Path]]:
    if not run_dir.is_dir():
        return []
    return [(step, path) for path in run_dir.iterdir() if (step := step_of(path)) is not None]


def leftovers_in(run_dir: Path) -> list[Path]:
    """Folders in which a checkpoint is, or was, being written or deleted; links are none. Raises OSError."""
    if not run_dir.is_dir():
        return []
    found = [each for each in run_dir.iterdir() if each.name.startswith((STAGING_PREFIX, REMOVING_PREFIX))]
    return sorted(each for each in found if each.is_dir() and not each.is_symlink())


def bytes_of_checkpoints(run_dir: Path) -> int:
    """What the checkpoints of a run take on the disk. Raises OSError."""
    return sum(map(bytes_below, [*checkpoints_in(run_dir), *leftovers_in(run_dir)]))


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder; links are not followed. Raises OSError."""
    return sum(file.lstat().st_size for file in files_below(folder))


def files_below(folder: Path) -> Iterator[Path]:
    """Everything below a folder except folders; links to folders are included. Raises OSError."""
    for place, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in (*links, *files))


def _raise(error: OSError) -> None:
    raise error
