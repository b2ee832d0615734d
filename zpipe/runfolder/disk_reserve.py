"""Reserves disk space so that errors can be written when the disk is full.

The supervisor takes the reserve; whoever has to explain an end releases it first.
"""

from contextlib import suppress

from zpipe.runfolder.folder import Attempt

SIZE = 1 << 18
"""Bytes: enough for the errors of several ranks, their logs, result.json and the post-mortem."""


def take(attempt: Attempt) -> None:
    """Raises OSError if the disk has no room for the reserve."""
    attempt.disk_reserve.unlink(missing_ok=True)
    with attempt.disk_reserve.open("xb") as file:
        file.write(b"\0" * SIZE)


def release(attempt: Attempt) -> None:
    """Frees the reserve; doing it again is harmless."""
    with suppress(OSError):
        attempt.disk_reserve.unlink(missing_ok=True)
