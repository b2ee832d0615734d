"""How far a run has been recorded: `record.json` in the run folder."""

import json
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from zpipe.plan.plan import write_json

FILE_NAME = "record.json"

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class RecordState:
    """What is known to be in MLflow, and how the run is meant to end there."""

    uri: str
    """Tracking URI without its password; empty if nobody knows."""
    run_id: str | None = None
    experiment_id: str | None = None
    parent_run_id: str | None = None
    """The run of the sweep that it belongs to."""
    offset: int = 0
    """Bytes of events.jsonl that MLflow has accepted."""
    opening: bool = False
    """A run may have been created whose id was not noted."""
    described: bool = False
    """Parameters and configuration are recorded."""
    status: Status | None = None
    """How the training ended, as far as its supervisor said so."""
    closed: bool = False


class StateFile:
    """The state and its file. Two threads write it: the recorder, and the one that ends the run."""

    def __init__(self, run_dir: Path, uri: str) -> None:
        self._path = run_dir / FILE_NAME
        self._lock = threading.Lock()
        self.now = RecordState(uri)
        self.read_again()

    def read_again(self) -> None:
        """Takes what is in the file, if there is one: another process may have written it."""
        self.now = read_state(self._path.parent) or self.now

    def update(self, **changes: Any) -> None:
        """Changes some fields and writes the file before it returns."""
        with self._lock:
            self.now = replace(self.now, **changes)
            write_json(self._path, asdict(self.now))


def read_state(run_dir: Path) -> RecordState | None:
    """The state that an earlier process left, or None.

    A file that cannot be read says as little as one that was never brought up to date.
    """
    path = run_dir / FILE_NAME
    if not path.exists():
        return None
    try:
        return RecordState(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        return RecordState("", opening=True)
