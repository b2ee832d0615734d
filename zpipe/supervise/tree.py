"""The processes of one launch: all of them found, and all of them ended."""

import signal
import time
from collections.abc import Callable

import psutil

GRACE_SECONDS = 15.0
"""Between the polite signal and the last one."""

STACK_SECONDS = 1.0
"""How long the ranks get to write where they stand."""

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_WORKER = "zpipe.train"


class ProcessTree:
    """A process and all its descendants, remembered: torchrun gives each rank its own session."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._known: dict[int, psutil.Process] = {pid: self._root}
        self._ranks: dict[int, psutil.Process] = {}
        self._looked = 0.0

    def look(self) -> None:
        """Notes new descendants, at most once a second."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            children = self._root.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            if child.pid not in self._known:
                self._known[child.pid] = child
        self._note_ranks(children)

    def resident_bytes(self) -> int:
        """Resident memory of all processes together; pages that they share count for each."""
        total = 0
        for process in self._known.values():
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total

    def rank_states(self) -> dict[int, str]:
        """What each rank's process is doing, in psutil's words; `gone` once it has ended."""
        states = {}
        for rank, process in sorted(self._ranks.items()):
            try:
                states[rank] = str(process.status())
            except psutil.NoSuchProcess:
                states[rank] = "gone"
        return states

    def write_stacks(self) -> None:
        """Has every rank write the stack of its main thread to its log (zpipe/train/__main__.py)."""
        for process in self._ranks.values():
            _send(process, signal.SIGUSR2)
        time.sleep(STACK_SECONDS)

    def end(self, patience: Callable[[], bool]) -> None:
        """SIGTERM to the launcher, which passes it to all ranks together; SIGKILL for what is left."""
        self._looked = 0.0
        self.look()
        if patience():
            _send(self._root, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while self._alive() and time.monotonic() < deadline and patience():
                time.sleep(_POLL_SECONDS)
        for process in self._alive():
            _send(process, signal.SIGKILL)
        # The root is left to whoever started it: psutil would take its exit code away.
        others = [process for process in self._known.values() if process != self._root]
        psutil.wait_procs(others, timeout=GRACE_SECONDS)

    def _alive(self) -> list[psutil.Process]:
        return [process for process in self._known.values() if _is_alive(process)]

    def _note_ranks(self, children: list[psutil.Process]) -> None:
        """Parents come before their children, so a rank's data loaders are never taken for the rank."""
        for child in children:
            if child in self._ranks.values():
                continue
            rank = _rank_of(child)
            if rank is not None:
                self._ranks.setdefault(rank, child)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two questions
        return False


def _rank_of(process: psutil.Process) -> int | None:
    """The rank of a worker's process, from its environment; None for any other process."""
    try:
        command = process.cmdline()
        if "-m" not in command or command[command.index("-m") + 1] != _WORKER:
            return None
        return int(process.environ()["RANK"])
    except (psutil.Error, KeyError, IndexError, ValueError):
        return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
