"""The other nodes of an attempt, through notes in the run folder: who takes part, lives, has failed."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from zpipe.diagnose.evidence import Evidence
from zpipe.diagnose.root_cause import is_consequence
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.nodes import NodeNote, read_note, write_note
from zpipe.schema.launcher import Launcher

BEAT_SECONDS = 2.0
LAST_WORDS_SECONDS = 15.0
"""How long a node whose ranks failed because of others waits for the node that tells the cause."""


@dataclass
class _Seen:
    beat: int
    since: float


class Nodes:
    """The notes of all nodes; `clock` returns a monotonic time in seconds."""

    def __init__(
        self,
        attempt: Attempt,
        settings: Launcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt, self._clock, self._timeout = attempt, clock, settings.node_timeout_s
        self._others = [number for number in range(settings.nodes) if number != settings.node_rank]
        self._own = NodeNote(node=settings.node_rank, host=socket.gethostname())
        self._told = -BEAT_SECONDS
        self._seen: dict[int, _Seen] = {}

    def tell(self, state: str | None = None, **more: Any) -> None:
        """A sign of life, at most every BEAT_SECONDS, or a new state at once. A full disk stops nothing."""
        if state is None and self._clock() - self._told < BEAT_SECONDS:
            return
        self._told = self._clock()
        update = {"beat": self._own.beat + 1, "state": state or self._own.state, **more}
        self._own = self._own.model_copy(update=update)
        with suppress(OSError):
            write_note(self._attempt, self._own)

    def others(self) -> list[NodeNote]:
        """The last note of each other node that has written one."""
        notes = [read_note(self._attempt, number) for number in self._others]
        return [note for note in notes if note is not None]

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Gives signs of life while this process is busy with something that takes its time."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                self.tell()

        self.tell(self._own.state)
        thread = threading.Thread(target=beat, name="zpipe-beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @property
    def has_ended(self) -> bool:
        """Whether this node has told how it ended."""
        return self._own.state == "ended"

    def pending(self) -> list[int]:
        """The other nodes that have neither agreed nor refused."""
        answered = {note.node for note in self.others() if note.state in ("ready", "refused")}
        return [number for number in self._others if number not in answered]

    def failed(self) -> NodeNote | None:
        """The first other node that has failed, or gives no sign of life any more."""
        notes = self.others()
        ended = [note for note in notes if note.state == "refused" or note.ending not in (None, "finished")]
        causes = [note for note in ended if note.is_cause]
        lost = [self._as_lost(note) for note in notes if self._is_lost(note)]
        return next(iter([*causes, *ended, *lost]), None)

    def last_words(self) -> NodeNote | None:
        """The same for a node whose own ranks failed: it waits for the one that knows why."""
        deadline = self._clock() + LAST_WORDS_SECONDS
        while self._clock() < deadline:
            failed = self.failed()
            if failed is not None and failed.is_cause:
                return failed
            if all(note.state in ("ended", "refused") for note in self.others()):
                break
            self.tell()
            time.sleep(0.2)
        return self.failed()

    def _as_lost(self, note: NodeNote) -> NodeNote:
        reason = f"gave no sign of life for {self._timeout:.0f} s"
        return note.model_copy(update={"ending": "rank_died", "reason": reason, "is_cause": True})

    def _is_lost(self, note: NodeNote) -> bool:
        seen = self._seen.get(note.node)
        if seen is None or seen.beat != note.beat:
            self._seen[note.node] = _Seen(note.beat, self._clock())
            return False
        return note.state != "ended" and self._clock() - seen.since > self._timeout


class Others(Protocol):
    """The other machines of a run: those with a zpipe of their own, or the hosts of a hostfile."""

    def last_words(self) -> NodeNote | None: ...


def with_other_node(evidence: Evidence, nodes: Others) -> Evidence:
    """The evidence with the node on which the failure began, if it did not begin here.

    What hung was ended from here, and the other nodes failed because of that.
    """
    if evidence.returncode == 0 or evidence.silence is not None or not is_consequence(evidence):
        return evidence
    failed = nodes.last_words()
    return evidence if failed is None else replace(evidence, other_node=failed)
