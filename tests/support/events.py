"""Events as a worker writes them, by their kind and fields."""

from pathlib import Path
from typing import Any

from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.events import Event, event_adapter
from zpipe.runfolder.folder import Attempt


def event(kind: str, **fields: Any) -> Event:
    """The typed event of this kind."""
    return event_adapter().validate_python({"event": kind, **fields})


class EventWriter:
    """Appends events to the event file of a run folder."""

    def __init__(self, folder: Path) -> None:
        self._reporter = Reporter(Attempt(folder).events)

    def write(self, kind: str, **fields: Any) -> None:
        self._reporter.report(event(kind, **fields))

    def close(self) -> None:
        self._reporter.close()
