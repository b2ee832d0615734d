"""Separates errors of the machine from invalid input."""

import errno

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Disk full, quota exceeded, file too large."""
MACHINE_ERRNOS = DISK_FULL_ERRNOS | {errno.ENOMEM, errno.EIO}
"""Also out of memory, I/O error."""


def reraise_machine_error(error: BaseException) -> None:
    """Raises the first machine error in the chain of causes of `error`; returns if there is none."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in MACHINE_ERRNOS):
            raise cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
