"""`zpipe runs`: the runs of the store, newest first, the points of a sweep below it."""

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from zpipe.exits import Exit
from zpipe.record.store import tracking_uri

if TYPE_CHECKING:
    from zpipe.record.browse import Recorded

LOSSES = ("eval_loss", "final_loss", "train_loss", "loss")
SPEEDS = ("tokens_per_sec", "throughput/tokens_per_sec")
GPU_PEAK = ("memory/peak_reserved_gib",)
HOST_PEAK = ("memory/host_peak_all_ranks_gib", "memory/host_peak_gib")
_COLOURS = {"FINISHED": "green", "FAILED": "red", "KILLED": "yellow", "RUNNING": "cyan"}


def runs(arguments: list[str]) -> int:
    """Raises Refusal if there is no such store or experiment."""
    parser = argparse.ArgumentParser(prog="zpipe runs", description=__doc__)
    parser.add_argument("--uri", help="MLflow store; outputs/mlflow.db unless given")
    parser.add_argument("--experiment", help="only this experiment's runs")
    parser.add_argument("--limit", type=int, default=50, help="how many of the newest runs (default: 50)")
    options = parser.parse_args(arguments)
    from zpipe.record.browse import recent

    found = recent(tracking_uri(options.uri), options.experiment, options.limit)
    print_runs(found)
    return Exit.FINISHED


def print_runs(found: "list[Recorded]") -> None:
    """A line for each run."""
    from rich.table import Table
    from rich.text import Text

    from zpipe.terminal.summary import clean, console

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("run", "name", "status", "ended", "stage", "offload"):
        table.add_column(heading, no_wrap=heading in ("run", "status"))
    for heading in ("loss", "tokens/s", "GPU GiB", "host GiB", "age"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run, depth in _nested(found):
        cells = [run.run_id[:8], "  " * depth + run.name, run.status, *_described(run)]
        styles = ["", "", _COLOURS.get(run.status, ""), *[""] * 8]
        table.add_row(*(Text(clean(cell), style) for cell, style in zip(cells, styles, strict=True)))
    out = console(None)
    out.print(table)
    if not found:
        out.print("no runs yet")


def offload_of(run: "Recorded") -> str:
    """What is offloaded where: `cpu`, `optimizer nvme`, or nothing."""
    optimizer = run.params.get("offload_optimizer", "none")
    parameters = run.params.get("offload_param", "none")
    if optimizer == parameters:
        return "" if optimizer == "none" else optimizer
    parts = {"optimizer": optimizer, "parameters": parameters}
    return ", ".join(f"{name} {device}" for name, device in parts.items() if device != "none")


def _described(run: "Recorded") -> Iterator[str]:
    from zpipe.terminal.units import duration

    yield run.ending.replace("_", " ")
    yield run.params.get("stage", "")
    yield offload_of(run)
    yield _shown(run.figure(*LOSSES), ".4f")
    yield _shown(run.figure(*SPEEDS), ",.0f")
    yield _shown(run.figure(*GPU_PEAK), ".2f")
    yield _shown(run.figure(*HOST_PEAK), ".2f")
    yield duration(max(0.0, time.time() - run.began))


def _nested(found: "Iterable[Recorded]") -> "Iterator[tuple[Recorded, int]]":
    """Every run with its depth, each below the run that it belongs to, if that is there."""
    listed = list(found)
    ids = {run.run_id for run in listed}
    children: dict[str | None, list[Recorded]] = {}
    for run in listed:
        children.setdefault(run.parent if run.parent in ids else None, []).append(run)

    def below(parent: str | None, depth: int) -> "Iterator[tuple[Recorded, int]]":
        for run in children.get(parent, []):
            yield run, depth
            yield from below(run.run_id, depth + 1)

    return below(None, 0)


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
