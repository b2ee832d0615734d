"""Whether the workers still show signs of life.

Only while rank 0 says something at least once a second when all is well: while it trains, evaluates and
saves. What comes before may rightly be silent for as long as a compiler, a tokenizer, a download or a
disk takes, and has time limits of its own.
"""

import time
from collections.abc import Callable

from zpipe.events import Event

WATCHED_PHASES = frozenset({"train", "evaluate", "save"})


class SilenceWatch:
    """Hears every event; `clock` is for tests: a monotonic time in seconds."""

    def __init__(self, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._heard = clock()
        self._watching = False

    def hear(self, event: Event) -> None:
        self._heard = self._clock()
        if event["event"] == "phase":
            self._watching = event["name"] in WATCHED_PHASES

    @property
    def seconds(self) -> float:
        """Since the last event, where silence counts; otherwise 0."""
        return self._clock() - self._heard if self._watching else 0.0

    @property
    def is_too_long(self) -> bool:
        return self._timeout is not None and self.seconds >= self._timeout
