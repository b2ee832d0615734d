"""Whether the workers still show signs of life.

Only while rank 0 has something to say when all is well: after each micro-batch and each batch of an
evaluation (at most once a second), and once a model is saved. What comes before may rightly be silent for
as long as a compiler, a tokenizer, a download or a disk takes, and has time limits of its own. So may the
start of DeepSpeed's engine, which opens the phase `train`: there the first step that is told,
step 0, begins the watch.
"""

import time
from collections.abc import Callable

from zpipe.runfolder.events import Event, PhaseStarted, StepReached

WATCHED_PHASES = frozenset({"train", "evaluate", "save"})


class SilenceWatch:
    """Receives every event; `clock` is for tests: a monotonic time in seconds."""

    def __init__(self, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._last = clock()
        self._watching = False
        self._starting = False

    def update(self, event: Event) -> None:
        self._last = self._clock()
        if isinstance(event, PhaseStarted):
            self._starting = event.name == "train"
            self._watching = event.name in WATCHED_PHASES and not self._starting
        elif isinstance(event, StepReached) and self._starting:
            self._starting = False
            self._watching = True

    @property
    def seconds(self) -> float:
        """Since the last event, where silence counts; otherwise 0."""
        return self._clock() - self._last if self._watching else 0.0

    @property
    def is_too_long(self) -> bool:
        return self._timeout is not None and self.seconds >= self._timeout
