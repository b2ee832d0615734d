"""Reads events for recording, a batch at a time."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from zpipe.runfolder.event_file import Event, EventReader


def read_some(reader: EventReader, most: int) -> list[Event]:
    """Up to `most` new events; empty when no whole line is left."""
    return list(islice(reader.read_new(), most))


def read_all(run_dir: Path) -> Iterator[Event]:
    """Every event of the run so far, from the first."""
    return EventReader(run_dir).read_new()


def decode(value: Any) -> float | None:
    """The number of an event's value, "nan" and "inf" included; None for what is no number."""
    if isinstance(value, str):
        return float(value) if value in ("nan", "inf", "-inf") else None
    return float(value) if isinstance(value, int | float) else None
