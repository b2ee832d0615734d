"""Shows how far a checkpoint of another shape is loaded."""

import time
from types import TracebackType

from zpipe.runfolder.event_file import Reporter

SECONDS_BETWEEN_REPORTS = 1.0


class ShownProgress:
    """Called with the parameters that are done and all of them; says when the last one was."""

    def __init__(self, reporter: Reporter, what: str) -> None:
        self._reporter, self._what = reporter, what
        self._reported = 0.0

    def __enter__(self) -> "ShownProgress":
        self._began = time.monotonic()
        return self

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if now - self._reported >= SECONDS_BETWEEN_REPORTS:
            self._reported = now
            self._reporter.phase("train", f"distributing {self._what}: {done} of {of} parameters")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            seconds = time.monotonic() - self._began
            self._reporter.notice(f"distributed {self._what} in {seconds:.1f} s; nothing was written for it")
