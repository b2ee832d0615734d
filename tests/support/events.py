"""Events as a worker writes them, by their kind and fields."""

from pathlib import Path
from typing import Any

from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.events import Event, event_adapter
from zpipe.runfolder.folder import RunFolder


def event(kind: str, **fields: Any) -> Event:
    """The typed event of this kind."""
    return event_adapter().validate_python({"event": kind, **fields})


class EventWriter:
    """Appends events to the event file of one attempt at a run; begins the attempt if it is new."""

    def __init__(self, folder: Path, attempt: int = 1) -> None:
        events = RunFolder(folder).numbered(attempt).events
        events.parent.mkdir(parents=True, exist_ok=True)
        self._reporter = Reporter(events)

    def write(self, kind: str, **fields: Any) -> None:
        self._reporter.report(event(kind, **fields))

    def close(self) -> None:
        self._reporter.close()
