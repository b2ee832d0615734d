"""Reads events for recording: a damaged line costs that line, never the rest of the run."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from zpipe.events import Event, EventReader


def read_some(reader: EventReader, most: int) -> list[Event]:
    """Up to `most` new events; empty only when no whole line is left."""
    events: list[Event] = []
    while len(events) < most:
        start = reader.offset
        try:
            for event in islice(reader.read_new(), most - len(events)):
                if _is_event(event):
                    events.append(event)
        except ValueError:  # a full disk or a crash damaged the line; the reader is past it already
            continue
        if reader.offset == start:
            break
    return events


def read_all(run_dir: Path) -> Iterator[Event]:
    """Every event of the run so far, from the first."""
    reader = EventReader(run_dir)
    while events := read_some(reader, 1000):
        yield from events


def decode(value: Any) -> float | None:
    """The number of an event's value, "nan" and "inf" included; None for what is no number."""
    if isinstance(value, str):
        return float(value) if value in ("nan", "inf", "-inf") else None
    return float(value) if isinstance(value, int | float) else None


def _is_event(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("event"), str) and "time" in value
