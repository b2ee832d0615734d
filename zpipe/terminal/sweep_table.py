"""The table at the end of a sweep."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from zpipe.terminal.console import clean, console, print_text
from zpipe.terminal.units import as_written


def print_sweep(points: Sequence[Mapping[str, Any]], stream: TextIO | None = None) -> None:
    """One line for each point of a sweep: its settings, ending, loss, speed and memory."""
    from rich.table import Table
    from rich.text import Text

    keys = _keys_that_differ(points)
    figures = ("ended", "loss", "tokens/s", "GPU GiB", "host GiB")
    table = Table(*("point", *keys, *figures), box=None, padding=(0, 2))
    best = min((_loss(point) for point in points if not math.isnan(_loss(point))), default=None)
    for point in points:
        settings = [as_written(str(point["settings"].get(key, ""))) for key in keys]
        cells = [Path(point["folder"]).name, *settings, *_sweep_figures(point, best)]
        table.add_row(*(Text(clean(cell)) for cell in cells))
    out = console(stream)
    out.print()
    out.print(table)
    finished = sum(point["ending"] == "finished" for point in points)
    print_text(out, f"\n{finished} of {len(points)} points finished")


def _keys_that_differ(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Overrides with more than one value in the sweep, in the order given."""
    keys = dict.fromkeys(key for point in points for key in point["settings"])
    return [key for key in keys if len({point["settings"].get(key) for point in points}) > 1]


def _sweep_figures(point: Mapping[str, Any], best: float | None) -> list[str]:
    loss, summary = _loss(point), point["summary"]
    return [
        f"{point['ending']}: {point['reason']}" if point.get("reason") else str(point["ending"]),
        ("" if math.isnan(loss) else f"{loss:.4f}") + (" (best)" if loss == best else ""),
        _figure(summary.get("tokens_per_sec"), ",.0f"),
        _figure(summary.get("memory/peak_reserved_gib"), ".2f"),
        _figure(summary.get("memory/host_peak_gib"), ".2f"),
    ]


def _figure(value: Any, form: str) -> str:
    return "" if value is None else format(float(value), form)


def _loss(point: Mapping[str, Any]) -> float:
    """The loss that points are compared by; NaN if there is none."""
    summary = point["summary"]
    return float(summary.get("eval_loss", summary.get("train_loss", math.nan)))
