"""A stop that loses nothing: the workers save a checkpoint first, if they can and while there is time."""

import signal
import time
from collections.abc import Callable

from zpipe.plans.plan import Plan
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.stop_request import request_stop
from zpipe.supervise.stops import Caught


class GracefulStop:
    """Asks the workers to save and to stop. `clock` returns a monotonic time in seconds; tests replace it."""

    def __init__(
        self, plan: Plan, progress: RunProgress, caught: Caught, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._attempt = folder_of(plan).attempt
        self._timeout = plan.experiment.checkpoint.stop_timeout_s
        self._progress, self._caught, self._clock = progress, caught, clock
        self._deadline: float | None = None

    def is_under_way(self) -> bool:
        """Whether to wait for the workers. Call it after a signal; the first call asks them to stop."""
        if self._deadline is None:
            if not self._can_save():
                return False
            self._deadline = self._clock() + self._timeout
            try:
                request_stop(self._attempt, self._reason())
            except OSError:
                return False
        return self._caught.count < 2 and self._clock() < self._deadline

    def _can_save(self) -> bool:
        """After Ctrl-C nobody wants to wait; before the first step there is nothing to save."""
        is_training = self._progress.phase == "train" and self._progress.steps is not None
        return is_training and self._caught.number != signal.SIGINT and self._caught.count < 2

    def _reason(self) -> str:
        return signal.Signals(self._caught.number or signal.SIGTERM).name
