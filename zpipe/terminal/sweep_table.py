"""The table at the end of a sweep."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from zpipe.runfolder.outcome import compared_loss
from zpipe.terminal.console import clean, console, print_text
from zpipe.terminal.units import as_written

LOSS_NAMES = {"eval_loss": "eval loss", "train_loss": "mean loss"}
"""Headings of the loss by which points are compared."""


def print_sweep(points: Sequence[Mapping[str, Any]], stream: TextIO | None = None) -> None:
    """One line for each point of a sweep: its settings, ending, loss, speed and memory."""
    from rich.table import Table
    from rich.text import Text

    keys = _keys_that_differ(points)
    loss = compared_loss(point["summary"] for point in points)
    figures = ("ended", LOSS_NAMES[loss], "tokens/s", "GPU GiB", "host GiB")
    table = Table(*("point", *keys, *figures), box=None, padding=(0, 2))
    losses = [float(point["summary"].get(loss, math.nan)) for point in points]
    best = min((each for each in losses if not math.isnan(each)), default=None)
    for point, given in zip(points, losses, strict=True):
        settings = [as_written(str(point["settings"].get(key, ""))) for key in keys]
        cells = [Path(point["folder"]).name, *settings, *_sweep_figures(point, given, best)]
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


def _sweep_figures(point: Mapping[str, Any], loss: float, best: float | None) -> list[str]:
    summary = point["summary"]
    return [
        f"{point['ending']}: {point['reason']}" if point.get("reason") else str(point["ending"]),
        ("" if math.isnan(loss) else f"{loss:.4f}") + (" (best)" if loss == best else ""),
        _figure(summary.get("tokens_per_sec"), ",.0f"),
        _figure(summary.get("memory/peak_reserved_gib"), ".2f"),
        _figure(summary.get("memory/host_peak_gib"), ".2f"),
    ]


def _figure(value: Any, form: str) -> str:
    return "" if value is None else format(float(value), form)
