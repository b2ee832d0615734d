"""Signals to a worker: during the training, SIGTERM and SIGUSR1 ask all ranks to save and to stop."""

import os
import signal
import threading

from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.stop_request import request_stop

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGUSR1})

ENDED_BY_LAUNCHER = "zpipe: the launcher ends this rank"
"""Last line of the log of a rank that got SIGTERM from its launcher."""

training_begun = threading.Event()
"""Set once there are steps after which the ranks can stop."""


def stop_on_signals(attempt: Attempt, rank: int) -> None:
    """Lets SIGTERM and SIGUSR1 to this process ask for a stop; a second signal ends it.

    Both end the process at once before the training has begun, and if the launcher sends them, because then
    the other ranks are ending already. Only sigwaitinfo tells the sender, so a thread receives the signals.
    Call this before any other thread exists: each inherits the blocked signals.
    """
    for number in _SIGNALS:  # the launcher may have been started with a signal ignored
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    os.register_at_fork(after_in_child=_in_a_child)
    threading.Thread(target=_receive, args=(attempt, rank), name="zpipe-signals", daemon=True).start()


def _in_a_child() -> None:
    """A data loader must outlive the signal before a time limit: its rank still needs it."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _receive(attempt: Attempt, rank: int) -> None:
    received = signal.sigwaitinfo(_SIGNALS)
    if training_begun.is_set() and received.si_pid != os.getppid():
        request_stop(attempt, f"{signal.Signals(received.si_signo).name} to rank {rank}")
        received = signal.sigwaitinfo(_SIGNALS)
    if received.si_pid == os.getppid():
        # Tells a rank that was ended because of another one from the rank that failed.
        os.write(2, f"{ENDED_BY_LAUNCHER}\n".encode())
    # The default action of both ends the process.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.kill(os.getpid(), received.si_signo)
