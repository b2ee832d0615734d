"""Whose fault an error is: what was given to zpipe, or the machine under it."""

import errno

TROUBLES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EIO})
"""A full disk, a quota, a limit on file sizes, no memory, a broken disk."""


def raise_if_machine(error: BaseException) -> None:
    """Raises the trouble of the machine that `error` is or was caused by; returns if there is none."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in TROUBLES):
            raise cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
