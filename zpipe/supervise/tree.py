"""Finds all processes of one launch, and ends all of them."""

import signal
import time
from collections.abc import Callable

import psutil

from zpipe.launchers.rank_exits import RankExit
from zpipe.machine.process_identity import exit_code_of
from zpipe.train.ranks import rank_number

GRACE_SECONDS = 15.0
"""Between SIGTERM and SIGKILL."""

STACK_SECONDS = 1.0
"""How long the ranks get to write their stacks."""

_POLL_SECONDS = 0.1
_REFRESH_SECONDS = 1.0
_WORKER = "zpipe.train"


class ProcessTree:
    """A process and all descendants seen so far, because torchrun starts each rank in its own session."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._known: dict[int, psutil.Process] = {pid: self._root}
        self._ranks: dict[int, psutil.Process] = {}
        self._exits: dict[int, RankExit] = {}
        self._refreshed = 0.0

    def refresh(self) -> None:
        """Looks for new descendants, at most once a second."""
        if time.monotonic() - self._refreshed < _REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        try:
            children = self._root.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            if child.pid not in self._known:
                self._known[child.pid] = child
        self._find_ranks(children)

    def resident_bytes(self) -> int:
        """Resident memory of all processes in total; shared pages are counted once per process."""
        total = 0
        for process in self._known.values():
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total

    def rank_states(self) -> dict[int, str]:
        """The state of each rank's process as psutil names it; `gone` after its end."""
        states = {}
        for rank, process in sorted(self._ranks.items()):
            try:
                states[rank] = str(process.status())
            except psutil.NoSuchProcess:
                states[rank] = "gone"
        return states

    def look_for_ended_ranks(self) -> None:
        """Notes the exit code of a rank in the moment in which its launcher has not asked for it yet."""
        for rank, process in self._ranks.items():
            code = None if rank in self._exits else exit_code_of(process.pid)
            if code:
                self._exits[rank] = RankExit(rank, code, time.time())

    def rank_exits(self) -> tuple[RankExit, ...]:
        """The ranks that were seen to end with another code than 0, in the order of their ends."""
        return tuple(self._exits.values())

    def write_stacks(self) -> None:
        """Makes every rank write the stack of its main thread to its log (zpipe/train/__main__.py)."""
        for process in self._ranks.values():
            _send(process, signal.SIGUSR2)
        time.sleep(STACK_SECONDS)

    def end(self, patience: Callable[[], bool]) -> None:
        """Sends SIGTERM to the launcher, which forwards it to all ranks, then SIGKILL to what is still alive.

        Skips to SIGKILL as soon as `patience` returns False.
        """
        self._refreshed = 0.0
        self.refresh()
        if patience():
            _send(self._root, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while self._alive() and time.monotonic() < deadline and patience():
                time.sleep(_POLL_SECONDS)
        for process in self._alive():
            _send(process, signal.SIGKILL)
        # The root is left to the code that started it: if psutil waited for it, its exit code would be lost.
        others = [process for process in self._known.values() if process != self._root]
        psutil.wait_procs(others, timeout=GRACE_SECONDS)

    def _alive(self) -> list[psutil.Process]:
        return [process for process in self._known.values() if _is_alive(process)]

    def _find_ranks(self, children: list[psutil.Process]) -> None:
        """Parents come before their children, so a rank's data loaders are never mistaken for the rank."""
        for child in children:
            if child in self._ranks.values():
                continue
            rank = _rank_of(child)
            if rank is not None:
                self._ranks.setdefault(rank, child)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two calls
        return False


def _rank_of(process: psutil.Process) -> int | None:
    """The rank of a worker's process, from its environment; None for any other process."""
    try:
        command = process.cmdline()
        if "-m" not in command or command[command.index("-m") + 1] != _WORKER:
            return None
        return rank_number(process.environ())
    except (psutil.Error, KeyError, IndexError, ValueError):
        return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
