"""Measurements of events as MLflow's metrics."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from zpipe.record.limits import safe_name
from zpipe.record.reading import decode
from zpipe.runfolder.event_file import Event

if TYPE_CHECKING:
    from mlflow.entities import Metric


def metrics_of(events: Iterable[Event]) -> "list[Metric]":
    """The metrics in these events.

    MLflow's key of a point is (name, step, timestamp, value), all of which come from the event: the same
    event twice is one point.
    """
    return [metric for event in events for metric in _metrics(event)]


def milliseconds(event: Event) -> int:
    """When the event was written, as MLflow counts time."""
    return int(event["time"] * 1000)


def renamed(events: Iterable[Event]) -> dict[str, str]:
    """Metrics that MLflow does not take under their own names: its name by ours."""
    ours = dict.fromkeys(key for event in events for key, _ in _values(event))
    return {key: safe_name(key) for key in ours if safe_name(key) != key}


def _metrics(event: Event) -> "Iterator[Metric]":
    from mlflow.entities import Metric

    for key, value in _values(event):
        yield Metric(safe_name(key), value, milliseconds(event), int(event.get("step") or 0))


def _values(event: Event) -> Iterator[tuple[str, float]]:
    if event["event"] not in ("metrics", "summary"):
        return
    # The last figures get names of their own: under the curves' names they would bend the curves' ends.
    prefix = "summary/" if event["event"] == "summary" else ""
    for key, given in event["values"].items():
        value = decode(given)
        if value is not None:
            yield prefix + key, value
