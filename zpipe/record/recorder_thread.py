"""Follows the event file of a run and keeps MLflow up to date, without ever holding up anything else."""

import contextlib
import random
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from zpipe.plan.plan import Plan, read_plan
from zpipe.problems import Problem, Refusal
from zpipe.record.client import is_passing
from zpipe.record.follower import Follower, RecordResult, claimed, shown
from zpipe.record.reading import read_all, read_some
from zpipe.record.recorder import Recorder, ended_as, is_accepted, last_word
from zpipe.record.state import StateFile, Status, read_state
from zpipe.record.store import resolve_uri, sqlite_file
from zpipe.redact import HIDDEN, redact_uri
from zpipe.runfolder.event_file import EventReader
from zpipe.runfolder.outcome import POSTMORTEM, read_outcome

__all__ = ["RecordResult", "Recorder", "RecorderThread", "record_run"]

_LONGEST_WAIT = 30.0
_LAST_CHANCE = 15.0
"""How long the end of a run waits for a store that was out of reach already."""
_FILE_SECONDS = 90.0
"""How long other processes may keep a store in a file busy."""


class RecorderThread:
    """Records a run while it goes on.

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
        self._state = StateFile(plan.folder, redact_uri(self.uri))
        self._parent_run_id = parent_run_id
        self._follower = Follower(plan, self.uri, base, self._state, parent_run_id)
        self._thread = threading.Thread(target=self._run, name="zpipe-recorder", daemon=True)
        self._ending = threading.Event()
        self._status: Status = "KILLED"
        self._files: tuple[str, ...] = ()
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
        """Begins to follow the events. The run folder must exist."""
        if self._enabled:
            self._state.update(uri=redact_uri(self.uri), status=None, parent_run_id=self._parent_run_id)
            self._thread.start()

    def finish(
        self,
        status: Status | None,
        timeout: float = 60.0,
        files: Iterable[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> RecordResult:
        """Records the rest and closes the run. Returns after `timeout` seconds in any case.

        To be called once the worker has ended, with None if it refused its input. `files` are further
        artifacts, relative to the run folder; `tags` are set on the run.
        """
        status = status or "FAILED"
        if not self._enabled:
            return RecordResult(True, None)
        if self._thread.ident is None:
            self.start()
        if self._error is not None:
            timeout = min(timeout, _LAST_CHANCE)
        self._status, self._files, self._tags = status, tuple(files), dict(tags or {})
        with contextlib.suppress(OSError):  # on a full disk the run is closed all the same
            self._state.update(status=status)
        self._deadline = time.monotonic() + timeout
        self._ending.set()
        self._thread.join(timeout)
        if self._done:
            return RecordResult(True, self.run_id)
        return RecordResult(False, self.run_id, self._error or f"MLflow did not answer within {timeout:g} s")

    def _run(self) -> None:
        try:
            with claimed(self._plan.folder):
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
                if not is_passing(error):
                    self._give_up()
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

    def _give_up(self) -> None:
        """MLflow will not take these events; the run is still closed when the training ends."""
        self._ending.wait()
        with contextlib.suppress(Exception):  # the error to report is the one that came first
            self._follower.end_run(self._status)


def record_run(run_dir: Path, base: Path | None = None, uri: str | None = None) -> RecordResult:
    """Brings MLflow up to date with a run that has ended, and closes the run there.

    Doing it again changes nothing. A run that is still being recorded is left alone. `uri` is needed where
    the store has a password, which a run folder never holds; Refusal says so.
    """
    run_dir, base = run_dir.absolute(), base or Path.cwd()
    plan = read_plan(run_dir).model_copy(update={"run_dir": str(run_dir)})
    uri = resolve_uri(uri, base) if uri is not None else _uri_of(plan, run_dir, base)
    state = StateFile(run_dir, redact_uri(uri))
    try:
        with claimed(run_dir):
            _record_claimed(plan, uri, base, state)
            return RecordResult(True, state.now.run_id)
    except Exception as error:
        return RecordResult(False, state.now.run_id, shown(error, uri))


def _record_claimed(plan: Plan, uri: str, base: Path, state: StateFile) -> None:
    """Tries again for a while where a file is locked, and not at all where a server is down."""
    deadline = time.monotonic() + (_FILE_SECONDS if sqlite_file(uri) is not None else 0)
    while True:
        try:
            state.read_again()
            if not state.now.closed or read_some(EventReader(plan.folder, state.now.offset), 1):
                follower = Follower(plan, uri, base, state, state.now.parent_run_id)
                outcome = read_outcome(plan.folder)
                status = outcome.mlflow_status if outcome else state.now.status or ended_as(plan.folder)
                tags = outcome.tags if outcome else {}
                follower.close(status, last_word(plan.folder), (POSTMORTEM,), tags)
            return
        except Exception as error:
            if not is_passing(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.2, 1.5))  # noqa: S311 - so that processes do not meet again


def has_begun(run_dir: Path) -> bool:
    """Whether there is something to record: the worker took its inputs, or MLflow has a run of it."""
    state = read_state(run_dir)
    is_known = state is not None and (state.run_id is not None or state.opening)
    return is_known or is_accepted(read_all(run_dir))


def is_being_recorded(run_dir: Path) -> bool:
    """Whether a living process records this run."""
    try:
        with claimed(run_dir):
            return False
    except RuntimeError:
        return True


def _uri_of(plan: Plan, run_dir: Path, base: Path) -> str:
    state = read_state(run_dir)
    uri = state.uri if state is not None and state.uri else resolve_uri(plan.experiment.tracking.uri, base)
    if HIDDEN in uri:
        reason = "the store's password is kept in no file"
        raise Refusal(
            [Problem("--uri", uri, reason, fix="give the URI again: zpipe record RUN_FOLDER --uri URI")]
        )
    return uri
