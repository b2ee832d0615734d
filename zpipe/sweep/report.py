"""The sweep report: points.json, a self-contained HTML page, and its plots."""

import base64
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from zpipe.problems import Problem, Refusal
from zpipe.runfolder.atomic import write_json, write_text
from zpipe.runfolder.json_lines import with_named_numbers
from zpipe.sweep.definition import read_definition
from zpipe.sweep.ledger import SETTLED, Attempt
from zpipe.sweep.results import PointResult, SweepResults, collect_results, short
from zpipe.terminal.console import show

FILE_NAME = "sweep_report.html"
POINTS = "points.json"
_TEMPLATE = "report.html.j2"


def write_report(folder: Path, points: list[Attempt]) -> list[Path]:
    """Writes points.json and, if there are points, the report; returns the written files.

    If plotting fails, the error is printed and the page has no plots.
    """
    rows = [as_row(folder, point) for point in points]
    try:
        files = [write_json(folder / POINTS, with_named_numbers(rows))]
    except IsADirectoryError as error:
        reason = f"{POINTS} is a folder, not the file that zpipe writes"
        raise Refusal([Problem("FOLDER", str(folder), reason, "a folder of zpipe")]) from error
    if not points:
        return files
    results = collect_results(points)
    try:
        from zpipe.sweep.plots import draw

        plots = draw(results, folder)
    except (ImportError, ValueError, OSError) as error:
        show(f"the sweep report has no plots: {error}", sys.stderr)
        plots = []
    return [*files, write_text(folder / FILE_NAME, render(folder, results, plots)), *plots]


def as_row(folder: Path, point: Attempt) -> dict[str, Any]:
    """A point as it is written to points.json and printed in the table."""
    return {
        "folder": str(folder / point.folder),
        "settings": point.settings,
        "ending": point.ending,
        "reason": point.reason,
        "summary": point.summary,
        "mlflow_run_id": point.mlflow_run_id,
    }


def render(folder: Path, results: SweepResults, plots: Iterable[Path]) -> str:
    """The page as HTML, with embedded plots."""
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
        title=_title(results),
        folder=str(folder),
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        command=" ".join(["zpipe", *_arguments(folder)]),
        keys=[*results.categorical, *results.numeric],
        memory_of=results.memory_of,
        loss_heading=results.loss_heading,
        has_mfu=any(point.mfu is not None for point in results.points),
        rows=list(_rows(results)),
        counts=_counts(results),
        resumable=any(point.ending not in SETTLED for point in results.points),
        plots=[(_caption(path), _embedded(path)) for path in plots],
    )


def _title(results: SweepResults) -> str:
    keys = [short(key) for key in (*results.categorical, *results.numeric)]
    return f"Sweep of {', '.join(keys)}" if keys else "Sweep"


def _arguments(folder: Path) -> list[str]:
    definition = read_definition(folder)
    return definition.arguments if definition is not None else []


def _rows(results: SweepResults) -> Iterable[dict[str, Any]]:
    front = {point.name for point in results.pareto_front()}
    best_loss = min((point.loss for point in results.points if point.loss is not None), default=None)
    best_speed = max((point.speed for point in results.points if point.speed is not None), default=None)
    least_memory = min((point.memory for point in results.points if point.memory is not None), default=None)
    for point in results.points:
        yield {
            "point": point,
            "kind": _kind(point),
            "on_front": point.name in front,
            "best_loss": point.loss is not None and point.loss == best_loss,
            "best_speed": point.speed is not None and point.speed == best_speed,
            "least_memory": point.memory is not None and point.memory == least_memory,
        }


def _kind(point: PointResult) -> str:
    if point.is_finished:
        return "good"
    return "result" if point.ending in SETTLED else "bad"


def _counts(results: SweepResults) -> list[tuple[str, int]]:
    return list(Counter(point.shown_ending for point in results.points).items())


def _caption(path: Path) -> str:
    name = path.stem.removeprefix("sweep_")
    return "Throughput against memory" if name == "pareto" else f"Over {name}"


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
