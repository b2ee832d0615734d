"""The other nodes of an attempt, through notes in the run folder: who takes part, lives, has failed.

Node 0 reads the notes of all, and tells in its own which node failed. The others read that note alone.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

from zpipe.diagnose.evidence import Evidence
from zpipe.diagnose.root_cause import is_consequence
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.nodes import NodeNote, write_note
from zpipe.runfolder.pace import pace_of
from zpipe.schema.launcher import Launcher
from zpipe.supervise.notes import Notes

LAST_WORDS_SECONDS = 15.0
"""How long a node whose ranks failed because of others waits at least for the node that tells the cause."""


class Nodes:
    """This node among the others; `clock` returns a monotonic time in seconds."""

    def __init__(
        self,
        attempt: Attempt,
        settings: Launcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt, self._clock, self._timeout = attempt, clock, settings.node_timeout_s
        self._pace = pace_of(settings.nodes)
        self._leads = settings.node_rank == 0
        self._others = range(1, settings.nodes) if self._leads else range(1)
        self._notes = Notes(attempt, self._others, self._pace.look, clock)
        self._own = NodeNote(node=settings.node_rank, host=socket.gethostname())
        self._share = (settings.node_rank + 1) / settings.nodes
        self._due = clock()

    def tell(self, state: str | None = None, **more: Any) -> None:
        """A sign of life when it is due, or something new at once. A full disk stops nothing.

        What all nodes tell at the same moment is followed by signs of life at different ones.
        """
        is_new = state is not None or bool(more)
        if not is_new and self._clock() < self._due:
            return
        self._due = self._clock() + self._pace.beat * (self._share if is_new else 1)
        update = {"beat": self._own.beat + 1, "state": state or self._own.state, **more}
        self._own = self._own.model_copy(update=update)
        with suppress(OSError):
            write_note(self._attempt, self._own)

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Gives signs of life while this process is busy with something that takes its time."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._pace.beat):
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
        """For node 0: the nodes that have neither agreed nor refused."""
        notes = self._notes.read()
        answered = {note.node for note in notes if note.state in ("ready", "refused") or _has_left(note)}
        return [node for node in self._others if node not in answered]

    def refused(self) -> list[NodeNote]:
        """For node 0: the nodes that cannot take part, or have ended before the run began."""
        return [note for note in self._notes.read() if note.state == "refused" or _has_left(note)]

    def ready(self) -> list[NodeNote]:
        """For node 0: the nodes that can take part."""
        return [note for note in self._notes.read() if note.state == "ready"]

    def all(self) -> list[NodeNote]:
        """For node 0: the last note of each other node."""
        return self._notes.read()

    def working(self) -> list[NodeNote]:
        """For node 0: the nodes that live and have not told their end."""
        return [
            note
            for note in self._notes.read()
            if note.state not in ("ended", "refused") and not self._is_lost(note)
        ]

    def lost(self) -> NodeNote | None:
        """For node 0: a node that gave no sign of life for too long."""
        return next((self._as_lost(note) for note in self._notes.read() if self._is_lost(note)), None)

    def parts(self) -> dict[int, list[int]]:
        """For node 0: the steps of which each node has its part of the checkpoint."""
        return {note.node: note.checkpoints for note in self._notes.read()}

    def first(self) -> NodeNote | None:
        """For the others: the note of node 0."""
        return next(iter(self._notes.read()), None)

    def failed(self) -> NodeNote | None:
        """The node on which the failure of the run began, as far as that is known; node 0 tells the others.

        A node that gives no sign of life any more has failed.
        """
        notes = self._notes.read()
        told = [note.failure for note in notes if note.failure is not None]
        ended = [note for note in notes if note.state == "refused" or note.ending not in (None, "finished")]
        lost = [self._as_lost(note) for note in notes if self._is_lost(note)]
        causes = [note for note in (*told, *ended) if note.is_cause]
        found = next(iter([*causes, *told, *ended, *lost]), None)
        if self._leads and found is not None:
            self._pass_on(found)
        return found

    def last_words(self) -> NodeNote | None:
        """The same for a node whose own ranks failed: it waits for the one that knows why."""
        deadline = self._clock() + max(LAST_WORDS_SECONDS, 3 * self._pace.look)
        while self._clock() < deadline:
            failed = self.failed()
            if failed is not None and failed.is_cause:
                return failed
            notes = self._notes.read()
            if len(notes) == len(self._others) and all(note.state in ("ended", "refused") for note in notes):
                break
            self.tell()
            time.sleep(0.2)
        return self.failed()

    def _pass_on(self, found: NodeNote) -> None:
        failure = found.model_copy(update={"beat": 0})
        if failure != self._own.failure:
            self.tell(failure=failure)

    def _as_lost(self, note: NodeNote) -> NodeNote:
        reason = f"gave no sign of life for {self._timeout:.0f} s"
        return note.model_copy(update={"ending": "rank_died", "reason": reason, "is_cause": True})

    def _is_lost(self, note: NodeNote) -> bool:
        return note.state != "ended" and self._notes.silence(note.node) > self._timeout


def _has_left(note: NodeNote) -> bool:
    return note.state == "ended" and note.ending != "finished"


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
