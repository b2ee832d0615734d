"""Exit codes of every zpipe command. docs/operations.md explains them to users."""

from enum import IntEnum


class Exit(IntEnum):
    FINISHED = 0
    """The command did what it was asked."""
    INTERNAL = 1
    """A defect of zpipe itself: the only case that prints a traceback."""
    REFUSED = 2
    """The input was refused before any work was done; nothing was recorded."""
    ENVIRONMENT = 3
    """This machine lacks something that the plan needs (libaio, a compiler, a GPU, disk)."""
    FAILED = 4
    """Training started and a worker failed."""
    SWEEP_INCOMPLETE = 5
    """A sweep ended with at least one point that did not finish."""
    RECORD_INCOMPLETE = 6
    """Training finished, but MLflow could not be brought up to date."""
    INTERRUPTED = 130
    """Ctrl-C, by the shell's convention 128 + SIGINT."""
    TERMINATED = 143
    """SIGTERM, by the shell's convention 128 + SIGTERM."""
