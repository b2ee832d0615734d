"""What MLflow does not have yet of a run, and how it gets there."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.plans.plan import Plan
from zpipe.record.client import open_client
from zpipe.record.recorder import Recorder
from zpipe.record.runs import existing_run
from zpipe.record.state import StateFile, Status
from zpipe.record.store import ensure_experiment, prepare_store
from zpipe.redact import redact
from zpipe.runfolder.events import Event
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents

if TYPE_CHECKING:
    from mlflow import MlflowClient

_EVENTS_A_BATCH = 500


@dataclass(frozen=True)
class RecordResult:
    """Whether MLflow has everything; `run_id` is None if no run was created, as for a refused one."""

    ok: bool
    run_id: str | None
    error: str | None = None
    """What prevents it, without passwords."""
    note: str | None = None
    """What this store cannot hold, and which run it holds anew."""


class Follower:
    """Reads the events of one run once, and brings those that MLflow does not have to MLflow."""

    def __init__(self, plan: Plan, uri: str, base: Path, state: StateFile, parent_run_id: str | None) -> None:
        self._plan, self._uri, self._base = plan, uri, base
        self._state, self._parent_run_id = state, parent_run_id
        self._events = RunEvents(folder_of(plan))
        self.progress = RunProgress.of(self._events.read_new(until=state.now.position))
        self._pending: list[Event] = []
        self._recorder: Recorder | None = None

    @property
    def note(self) -> str | None:
        """What the store cannot hold, and which run it holds anew, as far as it is known."""
        return None if self._recorder is None else self._recorder.note

    def has_new(self) -> bool:
        """Whether there are events that MLflow does not have."""
        self._read(_EVENTS_A_BATCH)
        return bool(self._pending)

    def catch_up(self) -> None:
        """Records every event that is there; raises if MLflow cannot accept them now."""
        while True:
            # While MLflow is away, unread events stay on disk instead of filling memory.
            unsent = len(self._pending) if self._is_accepted() else 0
            has_read = self._read(max(0, _EVENTS_A_BATCH - unsent))
            if not self._pending or not (self._is_accepted() or has_read):
                return
            if self._is_accepted():
                recorder = self._connect()
                recorder.record(self.progress, self._pending, self._events.position)
                self._pending = []

    def close(
        self, status: Status | None, end_time: int | None, files: Iterable[Path], tags: Mapping[str, str]
    ) -> None:
        """Records the rest and ends the run; a run that was refused before it was created leaves nothing.

        Without a status or an end time, those of the events hold.
        """
        self.catch_up()
        status = status or ended_as(self.progress)
        if not self._is_accepted() and self.progress.refused is not None:
            self._state.update_position(self._events.position, status=status, closed=True)
            return
        end_time = end_time or int(time.time() * 1000)
        recorder = self._connect()
        self.catch_up()  # again everything, where the store did not have the run anymore
        recorder.close(self.progress, self._pending, self._events.position, status, end_time, files, tags)
        self._pending = []

    def end_run(self, status: Status) -> None:
        """Ends a run that could not be recorded completely, so that it does not appear to be running."""
        run_id = self._state.now.run_id
        if run_id is not None:
            open_client(self._uri).set_terminated(run_id, status)

    def _read(self, most: int) -> bool:
        """Whether there was something to read."""
        before = self._events.position
        for event in islice(self._events.read_new(), most):
            self.progress.update(event)
            self._pending.append(event)
        return self._events.position != before

    def _is_accepted(self) -> bool:
        return self._state.now.run_id is not None or self.progress.accepted

    def is_lost(self) -> bool:
        """Whether the store answers that it does not have the run anymore: everything is then new to it."""
        if self._state.now.run_id is None:
            return False
        self._connect()
        return self._state.now.run_id is None

    def _connect(self) -> Recorder:
        if self._recorder is None:
            prepare_store(self._uri)
            client = open_client(self._uri)
            experiment_id = self._experiment_of_run(client) or ensure_experiment(
                client, self._uri, self._plan.experiment.tracking.experiment, self._base
            )
            self._recorder = Recorder(self._plan, client, experiment_id, self._state, self._parent_run_id)
        return self._recorder

    def _experiment_of_run(self, client: "MlflowClient") -> str | None:
        """None if the run is to be created, also because it is gone."""
        run_id = self._state.now.run_id
        run = existing_run(client, run_id) if run_id is not None else None
        if run is not None:
            return str(run.info.experiment_id)
        if run_id is not None:
            self._begin_anew(client)
        return None

    def _begin_anew(self, client: "MlflowClient") -> None:
        """Forgets what the store had, and reads the run from its first event again."""
        if self._parent_run_id is not None and existing_run(client, self._parent_run_id) is None:
            self._parent_run_id = None
        self._state.forget_run(self._parent_run_id)
        self._events, self.progress, self._pending = RunEvents(folder_of(self._plan)), RunProgress(), []
        self._read(_EVENTS_A_BATCH)


def ended_as(progress: RunProgress) -> Status:
    """How a run ended whose supervisor was killed, judged by its events."""
    if progress.done:
        return "FINISHED"
    return "FAILED" if progress.refused is not None or progress.failed is not None else "KILLED"


@contextlib.contextmanager
def claimed(folder: RunFolder) -> Iterator[None]:
    """Ensures that a run is recorded by one process at a time; the claim ends with its process."""
    with folder.recording() as is_ours:
        if not is_ours:
            raise RuntimeError("another process is recording this run")
        yield


def shown(error: Exception, uri: str) -> str:
    """The error for people, without passwords."""
    return redact(str(error) or type(error).__name__, uri)
