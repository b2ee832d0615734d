"""The summary of a run that has ended: its figures, its files, and what to try next."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from zpipe.checkpoints.state import inspect
from zpipe.runfolder.figures import predicted_and_measured
from zpipe.terminal.console import clean, console, print_text

if TYPE_CHECKING:
    from rich.table import Table

    from zpipe.plans.plan import Plan
    from zpipe.runfolder.outcome import Outcome
    from zpipe.runfolder.progress import RunProgress

_SUGGESTIONS_SHOWN = 3
_FIGURES = {
    "loss": ({"final_loss": "last", "train_loss": "mean", "eval_loss": "evaluation"}, ".4f"),
    "tokens/s": ({"tokens_per_sec": "", "tokens_per_sec_per_gpu": "per device"}, ",.0f"),
    "TFLOP/s": ({"tflops_per_gpu": "per device"}, ".3g"),
    "MFU": ({"mfu": ""}, ".1%"),
    "GPU memory": (
        {"memory/peak_allocated_gib": "GiB peak allocated", "memory/peak_reserved_gib": "GiB peak reserved"},
        ".2f",
    ),
    "host memory": (
        {
            "memory/host_peak_gib": "GiB peak of one process",
            "memory/host_peak_all_ranks_gib": "GiB of all processes",
        },
        ".2f",
    ),
}
"""By row: the metrics of the summary, each with its label, and their number format."""


def print_summary(
    plan: "Plan", progress: "RunProgress", outcome: "Outcome", stream: TextIO | None = None
) -> None:
    """How a run ended, what it left behind and how to inspect it."""
    from zpipe.record.store import tracking_uri
    from zpipe.record.ui import ui_command

    out = console(stream)
    ended = outcome.ending if not outcome.reason else f"{outcome.ending}: {outcome.reason}"
    out.print()
    print_text(out, f"{ended}\n", style="bold" if outcome.ending == "finished" else "bold red")
    out.print(summary_table(plan, outcome.summary, progress, outcome.mlflow_run_id))
    if outcome.record_error is not None:
        print_text(out, f"\nMLflow is incomplete: {outcome.record_error}")
        if Path(plan.run_dir).is_dir():
            print_text(out, f"bring it up to date:  {shlex.join(['zpipe', 'record', plan.run_dir])}")
    if outcome.record_note is not None:
        print_text(out, f"\n{outcome.record_note}")
    if outcome.ending != "finished" and (way := _how_it_goes_on(plan, progress)):
        print_text(out, way)
    if outcome.mlflow_run_id is not None:
        print_text(out, f"\nopen it in MLflow:  {ui_command(tracking_uri(plan.experiment.tracking.uri))}")


def _how_it_goes_on(plan: "Plan", progress: "RunProgress") -> str:
    """Empty for a run without a checkpoint."""
    folders = (Path(plan.run_dir, each.path) for each in progress.checkpoints)
    states = {inspect(folder, None, quick=True).state for folder in folders}
    if "good" in states:
        return f"\ngo on from there:  {shlex.join(['zpipe', f'resume={plan.run_dir}'])}"
    return "\nthe run cannot go on: its checkpoints have the model alone" if "model only" in states else ""


def where_it_goes(plan: "Plan") -> str:
    """The folder of a run that starts, its name in MLflow, and how to watch it."""
    from zpipe.record.facts import run_name
    from zpipe.record.store import tracking_uri
    from zpipe.record.ui import ui_command

    tracking = plan.experiment.tracking
    lines = [f"run folder  {plan.run_dir}"]
    if tracking.enabled:
        command = ui_command(tracking_uri(tracking.uri))
        lines.append(f"MLflow      {tracking.experiment}: {run_name(plan)}; to watch it: {command}")
    return "\n".join(lines)


def print_postmortem(
    path: Path | None, suggestions: Sequence[Sequence[str]], stream: TextIO | None = None
) -> None:
    """What to try after a run that did not finish, in short."""
    out = console(stream)
    if suggestions:
        print_text(out, "\nwhat to try, best first:")
        for overrides in suggestions[:_SUGGESTIONS_SHOWN]:
            print_text(out, f"  {' '.join(overrides)}")
    if path is not None:
        print_text(out, f"\npost-mortem:  {path}")


def summary_table(
    plan: "Plan", values: Mapping[str, Any], progress: "RunProgress", run_id: str | None = None
) -> "Table":
    """The last figures and the folders of a run; rows without a value are left out."""
    return summary_table_of(summary_rows(plan, values, progress, run_id))


def summary_table_of(rows: Mapping[str, str]) -> "Table":
    """Titles and texts in two columns, without those that are empty."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(clean(text)))
    return table


def summary_rows(
    plan: "Plan", values: Mapping[str, Any], progress: "RunProgress", run_id: str | None
) -> dict[str, str]:
    """The same as titles and texts; a row without a value is empty."""
    folder = Path(plan.run_dir)
    figures = {name: _listed(values, *row) for name, row in _FIGURES.items()}
    steps = progress.steps or planned_steps(plan)
    checkpoints = [folder / each.path for each in progress.checkpoints]
    return {
        "loss": figures.pop("loss"),
        "steps": f"{progress.step}" + (f" of {steps}" if steps else ""),
        "attempts": str(progress.attempts) if progress.attempts > 1 else "",
        **figures,
        "memory": _predicted(values, plan.launch.nodes),
        "skipped steps": str(progress.overflows) if progress.overflows else "",
        "checkpoints": "\n".join(str(path) for path in checkpoints if path.exists()),
        "model": "" if progress.model is None else str(folder / progress.model.path),
        "run folder": plan.run_dir,
        "MLflow run": run_id or "",
    }


def _predicted(values: Mapping[str, Any], nodes: int) -> str:
    """`GPU predicted 30.1 GiB, measured 29.8 (+1.0%)`, and the same for the host of one node."""
    pairs = predicted_and_measured(values, nodes)
    return "; ".join(
        f"{name} predicted {predicted:.1f} GiB, measured {measured:.1f} ({predicted / measured - 1:+.1%})"
        for name, (predicted, measured) in pairs.items()
    )


def planned_steps(plan: "Plan") -> int | None:
    """Optimizer steps of the whole run; None while only the epochs are known."""
    max_steps = plan.experiment.train.max_steps
    return max_steps if max_steps > 0 else None


def _listed(values: Mapping[str, Any], labels: Mapping[str, str], form: str) -> str:
    """The values that exist, each followed by its label."""
    parts = [
        f"{float(values[key]):{form}} {label}".rstrip() for key, label in labels.items() if key in values
    ]
    return ", ".join(parts)
