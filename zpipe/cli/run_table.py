"""The table of `zpipe runs`: a line for each run, with its ending, settings and metrics."""

import time
from collections.abc import Iterable, Iterator

from rich.table import Table
from rich.text import Text

from zpipe.record.browse import RecordedRun
from zpipe.runfolder.figures import EVAL_LOSS, GPU_PEAK, HOST_PEAK, LAST_LOSS, SPEED
from zpipe.terminal.console import clean, console
from zpipe.terminal.units import duration

_COLORS = {"FINISHED": "green", "FAILED": "red", "KILLED": "yellow", "RUNNING": "cyan"}


def print_runs(runs: list[RecordedRun]) -> None:
    """Prints a line for each run."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("run", "name", "status", "ending", "stage", "offload"):
        table.add_column(heading, no_wrap=heading in ("run", "status"), overflow="fold")
    for heading in ("train loss", "eval loss", "tokens/s", "GPU GiB", "host GiB", "age"):
        table.add_column(heading, justify="right", no_wrap=heading == "age", overflow="fold")
    for run, depth in _nested(runs):
        cells = [run.run_id[:8], "  " * depth + run.name, run.status, *_details(run)]
        styles = ["", "", _COLORS.get(run.status, ""), *[""] * 9]
        table.add_row(*(Text(clean(cell), style) for cell, style in zip(cells, styles, strict=True)))
    out = console(None)
    out.print(table)
    if not runs:
        out.print("no runs yet")


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
    yield _shown(run.metric(*LAST_LOSS), ".4f")
    yield _shown(run.metric(*EVAL_LOSS), ".4f")
    yield _shown(run.metric(*SPEED), ",.0f")
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
