"""Exit codes of every zpipe command. docs/operations.md explains them to users."""

import signal
from enum import IntEnum

PREEMPTION = (signal.SIGUSR1, signal.SIGUSR2)
"""What batch schedulers send before they end a job; submitit asks for SIGUSR2."""


class Exit(IntEnum):
    FINISHED = 0
    """The command did what it was asked."""
    INTERNAL = 1
    """A defect of zpipe itself: the only case that prints a traceback."""
    REFUSED = 2
    """The input was refused before any work was done; nothing was recorded.

    `zpipe checkpoints`: there are checkpoints, and none is good.
    """
    ENVIRONMENT = 3
    """This machine lacks something that the plan needs: libaio, a compiler, a GPU or disk space."""
    FAILED = 4
    """A worker ended with a Python error."""
    SWEEP_INCOMPLETE = 5
    """A sweep ended with at least one point that a resumed sweep would run again."""
    RECORD_INCOMPLETE = 6
    """Training finished, but MLflow could not be brought up to date."""
    GPU_OUT_OF_MEMORY = 10
    """A rank requested more GPU memory than was available."""
    HOST_OUT_OF_MEMORY = 11
    """A rank was killed because host memory ran out, or could not allocate more."""
    NONFINITE_LOSS = 12
    """The loss, or every gradient, was no longer finite."""
    LOSS_SCALE_STUCK = 13
    """fp16 gradients overflow even at the lowest loss scale."""
    HANG = 14
    """The workers sent no heartbeat for launcher.hang_timeout_s, or a collective timed out."""
    RANK_DIED = 15
    """A rank was killed by a signal that zpipe did not send."""
    DISK_FULL = 16
    """A file could not be written because the disk was full."""
    OPERATOR_BUILD = 17
    """An operator of DeepSpeed could not be compiled."""
    NOTHING_LEARNED = 18
    """Every step was skipped: the parameters are those before the training."""
    INTERRUPTED = 130
    """Ctrl-C, by the shell's convention 128 + SIGINT."""
    PIPE_CLOSED = 141
    """The reader closed the output, by the shell's convention 128 + SIGPIPE."""
    TERMINATED = 143
    """SIGTERM or preemption, by the shell's convention 128 + SIGTERM."""
