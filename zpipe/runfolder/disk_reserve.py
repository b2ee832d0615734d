"""Room on the disk for the last words: a file that is given up when nothing else can be written.

On a full disk a worker could not say that the disk is full. The supervisor therefore sets some room
aside, and whoever has to explain an end removes it first.
"""

from contextlib import suppress
from pathlib import Path

FILE_NAME = ".spare"
SIZE = 1 << 18
"""Bytes: errors of several ranks, their logs, result.json and the post-mortem."""


def set_aside(run_dir: Path) -> None:
    """Takes the room; raises OSError where there is none."""
    (run_dir / FILE_NAME).write_bytes(b"\0" * SIZE)


def give_up(run_dir: Path) -> None:
    """Frees the room; again is harmless."""
    with suppress(OSError):
        (run_dir / FILE_NAME).unlink(missing_ok=True)
