"""Leaves logging in the process of the caller as it was."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_unchanged() -> Iterator[None]:
    """Hydra gives the root logger handlers of a job, one of which holds a file of the run open."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
