"""How far a run has been recorded: `record.json` in the run folder."""

import shlex
import threading
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from zpipe.problems import Problem, Refusal
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.foreign_files import read_bytes
from zpipe.runfolder.run_events import Position

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class RecordState:
    """What MLflow is known to have, and the status with which the run is to end there."""

    uri: str
    """Tracking URI without its password, of the store that has what follows; empty if unknown."""
    run_id: str | None = None
    experiment_id: str | None = None
    parent_run_id: str | None = None
    """The run of the sweep that it belongs to."""
    attempt: int = 1
    """The attempt whose events are recorded next."""
    offset: int = 0
    """Bytes of its events.jsonl that MLflow has accepted."""
    opening: bool = False
    """The store may have a run of this folder whose id is not known."""
    described: bool = False
    """Parameters and configuration are recorded."""
    status: Status | None = None
    """How the training ended, as far as its supervisor reported it."""
    closed: bool = False
    replaces: str | None = None
    """The run of another store, or one that is gone: the run that is created next has everything anew."""

    @property
    def position(self) -> Position:
        """The end of what MLflow has accepted."""
        return Position(self.attempt, self.offset)

    def in_store(self, uri: str) -> "RecordState":
        """What is known of this store, which may be another one than before."""
        if not self.uri:
            return replace(self, uri=uri)
        return self if uri in ("", self.uri) else self.without_run(uri)

    def without_run(self, uri: str) -> "RecordState":
        """Nothing is known of this store, except that it may have had the run at an earlier time."""
        where = ", which is gone" if uri == self.uri else f" in {self.uri}"
        before = f"run {self.run_id}{where}" if self.run_id else self.replaces
        may_exist = self.opening or before is not None
        return RecordState(uri, opening=may_exist, status=self.status, replaces=before)


class StateFile:
    """The state and its file. Two threads write it: the recorder's, and the one that ends the run."""

    def __init__(self, folder: RunFolder, uri: str) -> None:
        self._folder, self._uri = folder, uri
        require_place(folder)
        self._lock = threading.Lock()
        self.now = RecordState(uri)
        self.read_again()

    def read_again(self) -> None:
        """Reads the file, if there is one: another process may have written it."""
        state = read_state(self._folder)
        self.now = self.now if state is None else state.in_store(self._uri)

    def forget_run(self, parent_run_id: str | None) -> None:
        """The store does not have the run anymore."""
        state = self.now.without_run(self.now.uri)
        self.update(**{**asdict(state), "parent_run_id": parent_run_id})

    def update(self, **changes: Any) -> None:
        """Changes some fields and writes the file before it returns."""
        with self._lock:
            self.now = replace(self.now, **changes)
            write_json(self._folder.record_state, asdict(self.now))

    def update_position(self, position: Position, **changes: Any) -> None:
        """The same, with the end of what MLflow has accepted."""
        self.update(attempt=position.attempt, offset=position.offset, **changes)


def require_place(folder: RunFolder) -> None:
    """Raises Refusal if a folder has the name of the file, which therefore cannot be written."""
    file = folder.record_state
    if file.is_dir() and not file.is_symlink():
        reason, allowed = "a folder is in the place of this file", "a record.json that zpipe wrote, or none"
        fix = shlex.join(["mv", str(file), f"{file}.old"])
        raise Refusal([Problem("record", str(file), reason, allowed, fix)])


def read_state(folder: RunFolder) -> RecordState | None:
    """The state that an earlier process left, or None. A damaged file counts as a run of unknown state."""
    file = folder.record_state
    if not file.exists() and not file.is_symlink():
        return None
    try:
        return TypeAdapter(RecordState).validate_json(read_bytes(file))
    except (OSError, ValidationError, RecursionError):
        return RecordState("", opening=True)
