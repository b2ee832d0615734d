"""All series of a run: what its event files say, and what MLflow says.

A point counts once however often it was said: MLflow keeps one of two that agree in step, value and time.
"""

import json
import math
from pathlib import Path
from typing import Any

from zpipe.runfolder.events import Metrics, Overflow, Summary
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.run_events import RunEvents

Series = dict[str, list[tuple[int, float]]]
LARGEST = 1.7976931348623157e308
"""MLflow's stand-in for infinity."""


def written(run_dir: Path) -> Series:
    """Every metric of the whole lines of the event files, as MLflow ought to have it."""
    found: Series = {}
    for event in RunEvents(RunFolder(run_dir)).read_new():
        if isinstance(event, Metrics | Overflow | Summary):
            prefix = "summary/" if isinstance(event, Summary) else ""
            for name, value in event.values.items():
                point = (getattr(event, "step", 0), _as_stored(value))
                found.setdefault(prefix + name, []).append(point)
    return {name: sorted(set(points)) for name, points in found.items()}


def recorded(client: Any, run_id: str) -> Series:
    """Every metric of a run in MLflow."""
    names = client.get_run(run_id).data.metrics
    return {
        name: sorted({(p.step, _as_stored(p.value)) for p in client.get_metric_history(run_id, name)})
        for name in names
    }


def run_id_of(run_dir: Path) -> str:
    return str(json.loads((run_dir / "record.json").read_text())["run_id"])


def _as_stored(value: float) -> float:
    """NaN as a number that equals itself."""
    if math.isnan(value):
        return -1.0
    return max(-LARGEST, min(LARGEST, value))
