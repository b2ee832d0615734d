"""What MLflow does not have yet of a run, and the way to bring it there."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zpipe.plan.plan import Plan
from zpipe.record.client import open_client
from zpipe.record.reading import read_some
from zpipe.record.recorder import Recorder, is_accepted
from zpipe.record.state import StateFile, Status
from zpipe.record.store import ensure_experiment, prepare_store
from zpipe.redact import redact
from zpipe.runfolder.event_file import Event, EventReader
from zpipe.runfolder.lock import held

_EVENTS_A_BATCH = 500
_LOCK = ".record.lock"


@dataclass(frozen=True)
class RecordResult:
    """Whether MLflow has everything; `run_id` is None if no run was made, as for a refused one."""

    ok: bool
    run_id: str | None
    error: str | None = None
    """What stands in the way, without passwords."""


class Follower:
    """The events of one run that MLflow does not have yet, and the way to bring them there."""

    def __init__(self, plan: Plan, uri: str, base: Path, state: StateFile, parent_run_id: str | None) -> None:
        self._plan, self._uri, self._base = plan, uri, base
        self._state, self._parent_run_id = state, parent_run_id
        self._reader = EventReader(plan.folder, state.now.offset)
        self._pending: list[Event] = []
        self._recorder: Recorder | None = None

    def catch_up(self) -> None:
        """Records every event that is there; raises if MLflow cannot take them now."""
        while True:
            # What MLflow still owes us stays on disk, however long it takes to come back.
            owed = len(self._pending) if self._is_accepted() else 0
            self._pending += read_some(self._reader, max(0, _EVENTS_A_BATCH - owed))
            if not self._pending or not self._is_accepted():
                return
            self._connect().record(self._pending, self._reader.offset)
            self._pending = []

    def close(
        self, status: Status, end_time: int | None, files: Iterable[str], tags: Mapping[str, str]
    ) -> None:
        """Records the rest and ends the run; a run that was refused before there was one leaves nothing."""
        self.catch_up()
        if not self._is_accepted() and any(event["event"] == "refused" for event in self._pending):
            self._state.update(offset=self._reader.offset, status=status, closed=True)
            return
        end_time = end_time or int(time.time() * 1000)
        self._connect().close(self._pending, self._reader.offset, status, end_time, files, tags)
        self._pending = []

    def end_run(self, status: Status) -> None:
        """Ends the run though not everything could be recorded, so that it does not seem to go on."""
        run_id = self._state.now.run_id
        if run_id is not None:
            open_client(self._uri).set_terminated(run_id, status)

    def _is_accepted(self) -> bool:
        return self._state.now.run_id is not None or is_accepted(self._pending)

    def _connect(self) -> Recorder:
        if self._recorder is None:
            prepare_store(self._uri)
            client = open_client(self._uri)
            name = self._plan.experiment.tracking.experiment
            experiment_id = ensure_experiment(client, self._uri, name, self._base)
            self._recorder = Recorder(self._plan, client, experiment_id, self._state, self._parent_run_id)
        return self._recorder


@contextlib.contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Makes sure that a run is recorded by one process at a time; the claim dies with its process."""
    with held(run_dir / _LOCK) as is_ours:
        if not is_ours:
            raise RuntimeError("another process is recording this run")
        yield


def shown(error: Exception, uri: str) -> str:
    """The error for people, without passwords."""
    return redact(str(error) or type(error).__name__, uri)
