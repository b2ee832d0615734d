"""Helpers for tests of the recorder: events in, MLflow entities out."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.events import EventWriter
from zpipe.plans.plan import Plan
from zpipe.runfolder.atomic import write_json

SECONDS = 60.0
"""A generous limit for what takes milliseconds on a quiet machine."""


def write_events(plan: Plan, *events: tuple[str, dict[str, Any]], attempt: int = 1) -> None:
    writer = EventWriter(Path(plan.run_dir), attempt)
    for kind, fields in events:
        writer.write(kind, **fields)
    writer.close()


def metrics(step: int, **values: float) -> tuple[str, dict[str, Any]]:
    return "metrics", {"step": step, "values": values}


def phase(name: str) -> tuple[str, dict[str, Any]]:
    return "phase", {"name": name, "detail": ""}


def run_of(client: Any, plan: Plan) -> Any:
    """The only run of this plan's folder, or None."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, f'tags.`zpipe.run_dir` = "{plan.run_dir}"')
    assert len(runs) <= 1
    return runs[0] if runs else None


def history(client: Any, run: Any, key: str) -> list[tuple[int, float]]:
    points = client.get_metric_history(run.info.run_id, key)
    return sorted((point.step, point.value) for point in points)


def models_of(client: Any, run: Any) -> dict[str, Any]:
    found = client.search_logged_models([run.info.experiment_id])
    mine = [model for model in found if model.source_run_id == run.info.run_id]
    assert len({model.name for model in mine}) == len(mine)
    return {model.name: model for model in mine}


def artifact(client: Any, run: Any, name: str) -> str:
    return Path(client.download_artifacts(run.info.run_id, name)).read_text()


def rewind(plan: Plan, **state: Any) -> None:
    """Makes record.json say less than was recorded, as a crash may leave it."""
    file = Path(plan.run_dir) / "record.json"
    write_json(file, {**json.loads(file.read_text()), **state})


def wait_until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
