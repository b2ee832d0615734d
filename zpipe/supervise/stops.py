"""Signals that ask zpipe to stop, and their likely senders."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID", "FLUX_JOB_ID")
"""Variables that a batch scheduler sets in its jobs."""


@dataclass
class Caught:
    number: int | None = None
    """The first signal received."""
    count: int = 0


@contextmanager
def signals_noted(interrupt: bool = False) -> Iterator[Caught]:
    """Records SIGNALS instead of being ended by them; does nothing outside the main thread.

    With `interrupt` each signal also raises KeyboardInterrupt, for work that runs in this thread.
    """
    caught = Caught()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: FrameType | None) -> None:
        caught.number = caught.number or number
        caught.count += 1
        if interrupt:
            raise KeyboardInterrupt

    handled = (number for number in SIGNALS if number != signal.SIGHUP or not _is_ignored(number))
    previous = {number: signal.signal(number, note) for number in handled}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_ignored(number: signal.Signals) -> bool:
    """As under nohup."""
    return signal.getsignal(number) is signal.SIG_IGN


def in_batch_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a batch scheduler runs this process, and may therefore end it."""
    return any(environment.get(name) for name in SCHEDULERS)
