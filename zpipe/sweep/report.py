"""The sweep report: points.json, a page that needs no other file, and its pictures."""

import base64
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from zpipe.runfolder.atomic import write_json, write_text
from zpipe.runfolder.json_lines import with_named_numbers
from zpipe.sweep.definition import read_definition
from zpipe.sweep.figures import Spot, Survey, short, survey
from zpipe.sweep.ledger import SETTLED, Attempt

FILE_NAME = "sweep_report.html"
POINTS = "points.json"
_TEMPLATE = "report.html.j2"


def write_report(folder: Path, points: list[Attempt]) -> list[Path]:
    """Writes points.json and, for a sweep that has points, the report; returns what was written.

    A picture that cannot be drawn is said and leaves the rest.
    """
    rows = [as_row(folder, point) for point in points]
    files = [write_json(folder / POINTS, with_named_numbers(rows))]
    if not points:
        return files
    found = survey(points)
    try:
        from zpipe.sweep.plots import draw

        pictures = draw(found, folder)
    except (ImportError, ValueError, OSError) as error:
        print(f"no pictures in the sweep report: {error}", file=sys.stderr)
        pictures = []
    return [*files, write_text(folder / FILE_NAME, render(folder, found, pictures)), *pictures]


def as_row(folder: Path, point: Attempt) -> dict[str, Any]:
    """A point as points.json and the table on the terminal have it."""
    return {
        "folder": str(folder / point.folder),
        "settings": point.settings,
        "ending": point.ending,
        "reason": point.reason,
        "summary": point.summary,
        "mlflow_run_id": point.mlflow_run_id,
    }


def render(folder: Path, found: Survey, pictures: Iterable[Path]) -> str:
    """The page, with its pictures inside."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zpipe.sweep", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    return environment.get_template(_TEMPLATE).render(
        title=_title(found),
        folder=str(folder),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        command=" ".join(["zpipe", *_arguments(folder)]),
        keys=[*found.categorical, *found.numeric],
        memory_of=found.memory_of,
        rows=list(_rows(found)),
        counts=_counts(found),
        resumable=any(spot.ending not in SETTLED for spot in found.spots),
        pictures=[(_caption(path), _embedded(path)) for path in pictures],
    )


def _title(found: Survey) -> str:
    keys = [short(key) for key in (*found.categorical, *found.numeric)]
    return f"Sweep of {', '.join(keys)}" if keys else "Sweep"


def _arguments(folder: Path) -> list[str]:
    definition = read_definition(folder)
    return definition.arguments if definition is not None else []


def _rows(found: Survey) -> Iterable[dict[str, Any]]:
    front = {spot.name for spot in found.front()}
    best_loss = min((spot.loss for spot in found.spots if spot.loss is not None), default=None)
    best_speed = max((spot.speed for spot in found.spots if spot.speed is not None), default=None)
    least = min((spot.memory for spot in found.spots if spot.memory is not None), default=None)
    for spot in found.spots:
        yield {
            "spot": spot,
            "ending": spot.ending.replace("_", " "),
            "kind": _kind(spot),
            "on_front": spot.name in front,
            "best_loss": spot.loss is not None and spot.loss == best_loss,
            "best_speed": spot.speed is not None and spot.speed == best_speed,
            "least_memory": spot.memory is not None and spot.memory == least,
        }


def _kind(spot: Spot) -> str:
    if spot.ending == "finished":
        return "good"
    return "result" if spot.ending in SETTLED else "bad"


def _counts(found: Survey) -> list[tuple[str, int]]:
    endings = [spot.ending for spot in found.spots]
    return [(ending.replace("_", " "), endings.count(ending)) for ending in dict.fromkeys(endings)]


def _caption(path: Path) -> str:
    name = path.stem.removeprefix("sweep_")
    return "Throughput against memory" if name == "pareto" else f"Over {name}"


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
