"""The table of `zpipe runs`: a line for each run, with its ending, settings and metrics."""

import time
from collections.abc import Iterable, Iterator
from typing import Literal

from rich.table import Table
from rich.text import Text

from zpipe.record.browse import RecordedRun
from zpipe.runfolder.figures import EVAL_LOSS, GPU_PEAK, HOST_PEAK, LAST_LOSS, MFU, SPEED
from zpipe.terminal.console import clean, console
from zpipe.terminal.units import duration

_COLORS = {"FINISHED": "green", "FAILED": "red", "KILLED": "yellow", "RUNNING": "cyan"}


COLUMNS = (
    *("run", "name", "status", "ending", "stage", "offload"),
    *("attempts", "train loss", "eval loss", "tokens/s", "MFU", "GPU GiB", "host GiB", "age"),
)
_FIRST_FIGURE = 6


def print_runs(runs: list[RecordedRun]) -> None:
    """Prints a line for each run; columns that are empty for all runs are left out."""
    rows = [_cells(run, depth) for run, depth in _nested(runs)]
    shown = [place for place, _ in enumerate(COLUMNS) if place < 3 or any(cells[place] for cells in rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place in shown:
        justify: Literal["left", "right"] = "right" if place >= _FIRST_FIGURE else "left"
        fixed = COLUMNS[place] in ("run", "status", "age")
        table.add_column(COLUMNS[place], justify=justify, no_wrap=fixed, overflow="fold")
    for cells in rows:
        styles = {"status": _COLORS.get(cells[2], "")}
        table.add_row(*(Text(clean(cells[place]), styles.get(COLUMNS[place], "")) for place in shown))
    out = console(None)
    out.print(table)
    if not runs:
        out.print("no runs yet")


def _cells(run: RecordedRun, depth: int) -> list[str]:
    return [run.run_id[:8], "  " * depth + run.name, run.status, *_details(run)]


def offload_of(run: RecordedRun) -> str:
    """The offload devices: `cpu` for both, `optimizer nvme` for one, or "" without offload."""
    optimizer = run.params.get("offload_optimizer", "none")
    parameters = run.params.get("offload_param", "none")
    if optimizer == parameters:
        return "" if optimizer == "none" else optimizer
    parts = {"optimizer": optimizer, "parameters": parameters}
    return ", ".join(f"{name} {device}" for name, device in parts.items() if device != "none")


def _details(run: RecordedRun) -> Iterator[str]:
    yield run.ending.replace("_", " ")
    yield run.params.get("stage", "")
    yield offload_of(run)
    yield str(run.attempts) if run.attempts > 1 else ""
    yield _shown(run.metric(*LAST_LOSS), ".4f")
    yield _shown(run.metric(*EVAL_LOSS), ".4f")
    yield _shown(run.metric(*SPEED), ",.0f")
    yield _shown(run.metric(*MFU), ".1%")
    yield _shown(run.metric(*GPU_PEAK), ".2f")
    yield _shown(run.metric(*HOST_PEAK), ".2f")
    yield duration(max(0.0, time.time() - run.began))


def _nested(runs: Iterable[RecordedRun]) -> Iterator[tuple[RecordedRun, int]]:
    """Every run with its depth; a run follows its parent if the parent is in the list."""
    listed = list(runs)
    ids = {run.run_id for run in listed}
    children: dict[str | None, list[RecordedRun]] = {}
    for run in listed:
        children.setdefault(run.parent if run.parent in ids else None, []).append(run)

    def below(parent: str | None, depth: int) -> Iterator[tuple[RecordedRun, int]]:
        for run in children.get(parent, []):
            yield run, depth
            yield from below(run.run_id, depth + 1)

    return below(None, 0)


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
