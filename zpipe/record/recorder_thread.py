"""Follows the event file of a run in a thread and keeps MLflow up to date, without blocking anything else."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from zpipe.plans.plan import Plan
from zpipe.record.client import is_transient
from zpipe.record.follower import Follower, RecordResult, claimed, shown
from zpipe.record.state import StateFile, Status
from zpipe.record.store import resolve_uri
from zpipe.redact import redact_uri
from zpipe.runfolder.plan_file import folder_of

_LONGEST_WAIT = 30.0
_LAST_CHANCE = 15.0
"""Seconds that the end of a run waits for a store that was unreachable before, or after a signal."""
_POLL_SECONDS = 0.1


class RecorderThread:
    """Records a run while it is running.

    `uri` is the store, by default the plan's; `base` the folder that the user works in, by default the
    current one.
    """

    def __init__(
        self,
        plan: Plan,
        uri: str | None = None,
        parent_run_id: str | None = None,
        base: Path | None = None,
        poll_seconds: float = 1.0,
    ) -> None:
        base = base or Path.cwd()
        self.uri = resolve_uri(uri or plan.experiment.tracking.uri, base)
        self._plan = plan
        self._enabled = plan.experiment.tracking.enabled
        self._poll = poll_seconds
        self._state = StateFile(folder_of(plan), redact_uri(self.uri))
        self._parent_run_id = parent_run_id
        self._follower = Follower(plan, self.uri, base, self._state, parent_run_id)
        self._thread = threading.Thread(target=self._run, name="zpipe-recorder", daemon=True)
        self._ending = threading.Event()
        self._status: Status = "KILLED"
        self._files: tuple[Path, ...] = ()
        self._tags: dict[str, str] = {}
        self._deadline = float("inf")
        self._done = False
        self._error: str | None = None

    @property
    def run_id(self) -> str | None:
        """The MLflow run, as soon as there is one."""
        return self._state.now.run_id

    @property
    def error(self) -> str | None:
        """Why MLflow is behind at the moment, or None."""
        return self._error

    def start(self) -> None:
        """Starts to follow the events. The run folder must exist."""
        if self._enabled:
            with contextlib.suppress(OSError):  # on a full disk the run is recorded anyway
                self._state.update(uri=redact_uri(self.uri), status=None, parent_run_id=self._parent_run_id)
            self._thread.start()

    def finish(
        self,
        status: Status | None,
        timeout: float = 60.0,
        files: Iterable[Path] = (),
        tags: Mapping[str, str] | None = None,
        signals: Callable[[], int] = lambda: 0,
    ) -> RecordResult:
        """Records the rest and closes the run. Returns after `timeout` seconds in any case.

        Call it once the worker has ended, with None if it refused its input. `files` are further artifacts;
        `tags` are set on the run. `signals` counts the signals since the worker has ended: the first shortens
        the wait, the second ends it.
        """
        status = status or "FAILED"
        if not self._enabled:
            return RecordResult(True, None)
        if self._thread.ident is None:
            self.start()
        if self._error is not None:
            timeout = min(timeout, _LAST_CHANCE)
        self._status, self._files, self._tags = status, tuple(files), dict(tags or {})
        with contextlib.suppress(OSError):  # on a full disk the run is closed anyway
            self._state.update(status=status)
        self._deadline = time.monotonic() + timeout
        self._ending.set()
        self._wait(signals)
        if self._done:
            return RecordResult(True, self.run_id, note=self._follower.note)
        late = (
            "a signal ended the wait for MLflow"
            if signals()
            else f"MLflow did not answer within {timeout:g} s"
        )
        return RecordResult(False, self.run_id, self._error or late)

    def _wait(self, signals: Callable[[], int]) -> None:
        is_shortened = False
        while self._thread.is_alive() and time.monotonic() < self._deadline and signals() < 2:
            if signals() and not is_shortened:
                self._deadline = min(self._deadline, time.monotonic() + _LAST_CHANCE)
                is_shortened = True
            self._thread.join(_POLL_SECONDS)

    def _run(self) -> None:
        try:
            with claimed(folder_of(self._plan)):
                self._follow()
        except Exception as error:
            self._error = shown(error, self.uri)

    def _follow(self) -> None:
        wait = self._poll
        while time.monotonic() < self._deadline:
            ending = self._ending.is_set()
            try:
                self._step(ending)
                if ending:
                    return
                self._error, wait = None, self._poll
            except Exception as error:
                self._error = shown(error, self.uri)
                if not is_transient(error):
                    self._end_incomplete()
                    return
                wait = self._poll if ending else min(2 * wait, _LONGEST_WAIT)
            if ending:
                time.sleep(wait)
            else:
                self._ending.wait(wait)

    def _step(self, ending: bool) -> None:
        if ending:
            self._follower.close(self._status, None, self._files, self._tags)
            self._done = True
        else:
            self._follower.catch_up()

    def _end_incomplete(self) -> None:
        """MLflow rejects these events; the run is still closed when the training ends."""
        self._ending.wait()
        with contextlib.suppress(Exception):  # the error to report is the one that came first
            self._follower.end_run(self._status)
