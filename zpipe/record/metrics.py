"""Events as MLflow metrics, and the precision events of a run as a table."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from zpipe.record.limits import safe_name
from zpipe.runfolder.events import CheckpointSaved, Event, Metrics, NonFiniteLoss, Overflow, Summary
from zpipe.runfolder.progress import RunProgress

if TYPE_CHECKING:
    from mlflow.entities import Metric

SUMMARY_PREFIX = "summary/"
"""Under the names of the curves, the last figures would distort the ends of the curves."""
PRECISION_TABLE = "precision_events.json"
PRECISION_COLUMNS = ("step", "event", "loss", "grad_norm", "scale_before", "scale_after", "skipped_total")

_LABELS = {"overflow": "step skipped", "nonfinite": "loss not finite"}


def metrics_of(events: Iterable[Event]) -> "list[Metric]":
    """The metrics in these events.

    MLflow's key of a point is (name, step, timestamp, value), all of which come from the event, so an event
    that is recorded twice gives one point.
    """
    return [metric for event in events for metric in _metrics(event)]


def milliseconds(seconds: float) -> int:
    """Unix time in seconds as MLflow counts it."""
    return int(seconds * 1000)


def renamed_metrics(progress: RunProgress) -> dict[str, str]:
    """MLflow's name by ours, for the metrics that MLflow does not accept under their own names."""
    names = [*progress.values, *(SUMMARY_PREFIX + name for name in progress.summary)]
    return {name: safe_name(name) for name in names if safe_name(name) != name}


def precision_rows(events: Iterable[Overflow | NonFiniteLoss]) -> list[list[Any]]:
    """A row for each event, in PRECISION_COLUMNS; null where a column does not apply."""
    return [
        [
            event.step,
            _LABELS[event.event],
            *(getattr(event, column, None) for column in PRECISION_COLUMNS[2:]),
        ]
        for event in events
    ]


def _metrics(event: Event) -> "Iterator[Metric]":
    from mlflow.entities import Metric

    for name, value in _values(event):
        yield Metric(safe_name(name), value, milliseconds(event.time), getattr(event, "step", 0))


def _values(event: Event) -> Iterator[tuple[str, float]]:
    match event:
        case Metrics() | Overflow() | CheckpointSaved():
            yield from event.values.items()
        case Summary():
            yield from ((SUMMARY_PREFIX + name, value) for name, value in event.values.items())
        case _:
            pass
