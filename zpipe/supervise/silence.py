"""Detects workers that no longer send events.

Events are heartbeats only in the phases in which rank 0 sends them regularly: after each micro-batch and each
batch of an evaluation (at most once a second), and after a model is saved. The phases before may be silent
while a compiler, a tokenizer, a download or a disk is busy, and have their own timeouts. So may the start of
DeepSpeed's engine at the beginning of phase `train`: there the first step event, step 0, starts the watch.
"""

import time
from collections.abc import Callable

from zpipe.runfolder.events import Event, PhaseStarted, StepReached

WATCHED_PHASES = frozenset({"train", "evaluate", "save"})


class SilenceWatch:
    """Receives every event. `clock` returns a monotonic time in seconds; tests replace it."""

    def __init__(self, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._last_event = clock()
        self._watching = False
        self._starting = False

    def update(self, event: Event) -> None:
        self._last_event = self._clock()
        if isinstance(event, PhaseStarted):
            self._starting = event.name == "train"
            self._watching = event.name in WATCHED_PHASES and not self._starting
        elif isinstance(event, StepReached) and self._starting:
            self._starting = False
            self._watching = True

    @property
    def seconds(self) -> float:
        """Time since the last event in a watched phase; otherwise 0."""
        return self._clock() - self._last_event if self._watching else 0.0

    @property
    def is_too_long(self) -> bool:
        return self._timeout is not None and self.seconds >= self._timeout
