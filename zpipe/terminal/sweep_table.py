"""The table at the end of a sweep."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from zpipe.runfolder.figures import COMPARED_LOSSES, GPU_PEAK, HOST_PEAK, MFU, SPEED, compared_loss
from zpipe.terminal.console import clean, console, print_text
from zpipe.terminal.units import as_written


def print_sweep(points: Sequence[Mapping[str, Any]], stream: TextIO | None = None) -> None:
    """One line for each point of a sweep: its settings, ending, loss, speed and memory."""
    from rich.table import Table
    from rich.text import Text

    keys = _keys_that_differ(points)
    name = compared_loss(point["summary"] for point in points)
    mfu = ["MFU"] if any(MFU[0] in point["summary"] for point in points) else []
    figures = ("ended", COMPARED_LOSSES[name], "tokens/s", *mfu, "GPU GiB", "host GiB")
    table = Table(*("point", *keys, *figures), box=None, padding=(0, 2))
    losses = [float(point["summary"].get(name, math.nan)) for point in points]
    best = min((loss for loss in losses if not math.isnan(loss)), default=None)
    for point, loss in zip(points, losses, strict=True):
        settings = [as_written(str(point["settings"].get(key, ""))) for key in keys]
        cells = [Path(point["folder"]).name, *settings, *_sweep_figures(point, loss, best, bool(mfu))]
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


def _sweep_figures(point: Mapping[str, Any], loss: float, best: float | None, with_mfu: bool) -> list[str]:
    summary = point["summary"]
    return [
        f"{point['ending']}: {point['reason']}" if point.get("reason") else str(point["ending"]),
        ("" if math.isnan(loss) else f"{loss:.4f}") + (" (best)" if loss == best else ""),
        _figure(summary, SPEED, ",.0f"),
        *([_figure(summary, MFU, ".1%")] if with_mfu else []),
        _figure(summary, GPU_PEAK, ".2f"),
        _figure(summary, HOST_PEAK, ".2f"),
    ]


def _figure(summary: Mapping[str, Any], names: Sequence[str], form: str) -> str:
    """The first of these figures that the summary has."""
    return next((format(float(summary[name]), form) for name in names if name in summary), "")
