"""The events of precision as one table: skipped steps, and losses that were no finite numbers."""

from collections.abc import Iterable
from typing import Any

from zpipe.runfolder.event_file import Event

HEALTH_TABLE = "precision_events.json"
HEALTH_COLUMNS = ("step", "event", "loss", "grad_norm", "scale_before", "scale_after", "skipped_total")

_NAMES = {"overflow": "step skipped", "nonfinite": "loss not finite"}


def health_rows(events: Iterable[Event]) -> list[list[Any]]:
    """A row for each such event, in the order in which they happened; null where a column says nothing."""
    return [
        [event.get("step"), _NAMES[event["event"]], *(event.get(column) for column in HEALTH_COLUMNS[2:])]
        for event in events
        if event["event"] in _NAMES
    ]
