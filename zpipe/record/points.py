"""Measurements of events as MLflow's metrics."""

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from zpipe.events import Event
from zpipe.record.reading import decode

if TYPE_CHECKING:
    from mlflow.entities import Metric

_NAME_LENGTH = 250


def metrics_of(events: Iterable[Event]) -> "list[Metric]":
    """The metrics in these events.

    MLflow's key of a point is (name, step, timestamp, value), all of which come from the event: the same
    event twice is one point.
    """
    return [metric for event in events for metric in _metrics(event)]


def milliseconds(event: Event) -> int:
    """When the event was written, as MLflow counts time."""
    return int(event["time"] * 1000)


def _metrics(event: Event) -> "Iterator[Metric]":
    from mlflow.entities import Metric

    if event["event"] not in ("metrics", "summary"):
        return
    # The last figures get names of their own: under the curves' names they would bend the curves' ends.
    prefix = "summary/" if event["event"] == "summary" else ""
    for key, given in event["values"].items():
        value = decode(given)
        if value is not None:
            yield Metric(_name(prefix + key), value, milliseconds(event), int(event.get("step") or 0))


def _name(key: str) -> str:
    """A name that MLflow takes: it refuses a whole batch for a single bad one."""
    name = posixpath.normpath(re.sub(r"[^\w. :/-]", "_", key)).lstrip("./")
    return name[:_NAME_LENGTH] or "_"
