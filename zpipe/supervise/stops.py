"""Signals that ask zpipe to stop, and their likely senders."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from zpipe.exits import PREEMPTION, Exit

SIGNALS = (signal.SIGINT, signal.SIGTERM, *PREEMPTION, signal.SIGHUP)

SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID", "FLUX_JOB_ID", "ZPIPE_JOB")
"""Variables that a batch scheduler sets in its jobs, and zpipe in those that it submits."""


class Stopped(KeyboardInterrupt):
    """A signal interrupted work that may be left as it is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> Exit:
        return Exit.INTERRUPTED if self.number == signal.SIGINT else Exit.TERMINATED


class Caught:
    """What a block of `signals_noted` has received."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal received."""
        self.count = 0


_blocks: list[Caught] = []
"""Of the blocks that this process is in, the outermost first: a signal is noted in each."""


@contextmanager
def signals_noted(interrupt_at: int | None = None) -> Iterator[Caught]:
    """Notes SIGNALS instead of being ended by them; does nothing outside the main thread.

    From the signal of this number on, counted from 1, each raises Stopped in this thread.
    """
    caught = Caught()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: FrameType | None) -> None:
        for each in _blocks:
            each.number = each.number or number
            each.count += 1
        if interrupt_at is not None and caught.count >= interrupt_at:
            raise Stopped(number)

    handled = (number for number in SIGNALS if number != signal.SIGHUP or not _is_ignored(number))
    _blocks.append(caught)
    previous = {number: signal.signal(number, note) for number in handled}
    try:
        yield caught
    finally:
        _blocks.pop()
        for number, handler in previous.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """For the last moments of this process, when its exit code is settled."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _is_ignored(number: signal.Signals) -> bool:
    """As under nohup."""
    return signal.getsignal(number) is signal.SIG_IGN


def in_batch_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a batch scheduler runs this process, and may therefore end it."""
    return any(environment.get(name) for name in SCHEDULERS)
