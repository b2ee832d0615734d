"""Reads the notes of other nodes, each in its turn, so that a thousand of them are no burst of reads."""

from collections import deque
from collections.abc import Callable, Sequence

from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.nodes import NodeNote, read_note


class Notes:
    """The last notes of some nodes. Each is read again after `look` seconds, by the clock that is given."""

    def __init__(
        self, attempt: Attempt, nodes: Sequence[int], look: float, clock: Callable[[], float]
    ) -> None:
        self._attempt, self._look, self._clock = attempt, look, clock
        begin = clock()
        turns = ((begin + look * index / len(nodes), node) for index, node in enumerate(nodes))
        self._turns = deque(turns)
        self._known: dict[int, NodeNote] = {}
        self._changed: dict[int, float] = {}

    def read(self) -> list[NodeNote]:
        """The last note of each node that has written one, after reading those whose turn it is."""
        now = self._clock()
        while self._turns and self._turns[0][0] <= now:
            _, node = self._turns.popleft()
            self._turns.append((now + self._look, node))
            self._note(node, now)
        return [self._known[node] for node in sorted(self._known)]

    def silence(self, node: int) -> float:
        """Seconds since its last sign of life was seen."""
        return self._clock() - self._changed[node]

    def _note(self, node: int, now: float) -> None:
        note, before = read_note(self._attempt, node), self._known.get(node)
        if note is None:  # not written yet, or damaged
            return
        if before is None or before.beat != note.beat:
            self._changed[node] = now
        self._known[node] = note
