"""How often nodes and ranks use the file system that they share: all together at a bounded rate."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

NOTES_PER_SECOND = 200
"""What all nodes write together at most, and what node 0 reads, and what the others read."""
MARKERS_PER_SECOND = 1000
"""How often all ranks together look for a file at most."""


@dataclass(frozen=True)
class Pace:
    """The periods of each node, in seconds."""

    beat: float
    """Between two signs of life."""
    look: float
    """Between two looks at the note of the same node."""

    @property
    def least_timeout(self) -> int:
        """The shortest silence that is no accident: three signs of life, and one look for them."""
        return math.ceil(3 * self.beat + self.look)


def pace_of(nodes: int) -> Pace:
    """Several nodes react in a second or two, a thousand in ten."""
    spread = nodes / NOTES_PER_SECOND
    return Pace(beat=max(2.0, spread), look=max(0.5, spread))


def marker_seconds(ranks: int, least: float = 0.1) -> float:
    """Between two looks of each rank for a file that another one writes."""
    return max(least, ranks / MARKERS_PER_SECOND)


class Every:
    """True at most once in so many seconds. `clock` returns a monotonic time in seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock, self._due = seconds, clock, float("-inf")

    def is_due(self) -> bool:
        now = self._clock()
        if now < self._due:
            return False
        self._due = now + self._seconds
        return True
