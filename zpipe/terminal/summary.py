"""What is printed when something has ended: problems, a run's summary, a sweep's points."""

import math
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from zpipe.plan.plan import Plan
    from zpipe.problems import Problem
    from zpipe.runfolder.outcome import Outcome

_WIDTH_WITHOUT_TERMINAL = 200
_SUGGESTIONS_SHOWN = 3


@dataclass
class Facts:
    """What the events said so far."""

    step: int = 0
    steps: int | None = None
    """Of the whole run, as soon as it is known."""
    values: dict[str, float] = field(default_factory=dict)
    """The last value of each metric."""
    overflows: int = 0
    checkpoints: list[Path] = field(default_factory=list)
    """Every checkpoint that was written; save_total_limit may have removed some since."""
    model: Path | None = None


class HasFacts(Protocol):
    """Somebody who listened to the run."""

    facts: Facts


def print_problems(problems: Iterable["Problem"], title: str = "", stream: TextIO | None = None) -> None:
    """A numbered list on stderr."""
    out = stream or sys.stderr
    listed = list(problems)
    heading = title or f"Refused: {len(listed)} problem{'' if len(listed) == 1 else 's'} in the input"
    print(f"{heading}\n", file=out)
    for index, problem in enumerate(listed, start=1):
        mark = f"{index:>3}. "
        lines = clean(str(without_secrets(problem))).splitlines()
        print(mark + f"\n{' ' * len(mark)}".join(lines), file=out)
    out.flush()


def without_secrets(problem: "Problem") -> "Problem":
    """The problem with `***` for a secret that was typed, wherever it is repeated."""
    from zpipe.redact import redact_override, redact_tree

    safe = redact_tree(problem.value, problem.key)
    texts = {name: getattr(problem, name) for name in ("reason", "allowed", "fix")}
    if safe != problem.value:
        texts = {name: text.replace(str(problem.value), str(safe)) for name, text in texts.items()}
    return replace(problem, key=redact_override(problem.key), value=safe, **texts)


def print_summary(plan: "Plan", progress: HasFacts, outcome: "Outcome", stream: TextIO | None = None) -> None:
    """How a run ended: its figures, what it left behind and how to look at it."""
    from zpipe.record.store import tracking_uri
    from zpipe.record.ui import ui_command

    out = console(stream)
    ended = outcome.ending if not outcome.reason else f"{outcome.ending}: {outcome.reason}"
    out.print()
    print_text(out, f"{ended}\n", style="bold" if outcome.ending == "finished" else "bold red")
    out.print(summary_table(plan, outcome.summary, progress.facts, outcome.mlflow_run_id))
    if outcome.record_error is not None:
        print_text(out, f"\nMLflow is incomplete: {outcome.record_error}")
        print_text(out, f"bring it up to date:  {shlex.join(['zpipe', 'record', plan.run_dir])}")
    if outcome.mlflow_run_id is not None:
        print_text(out, f"\nlook at it in MLflow:  {ui_command(tracking_uri(plan.experiment.tracking.uri))}")


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
    plan: "Plan", values: Mapping[str, Any], facts: Facts, run_id: str | None = None
) -> "Table":
    """The last figures and the folders of a run; a row is left out where nothing is known."""
    from rich.table import Table
    from rich.text import Text

    rows = {
        "loss": _listed(
            values, {"final_loss": "last", "train_loss": "mean", "eval_loss": "evaluation"}, ".4f"
        ),
        "steps": f"{facts.step}" + (f" of {facts.steps}" if facts.steps else ""),
        "tokens/s": _listed(values, {"tokens_per_sec": "", "tokens_per_sec_per_gpu": "per device"}, ",.0f"),
        "GPU memory": _listed(
            values,
            {
                "memory/peak_allocated_gib": "GiB allocated at most",
                "memory/peak_reserved_gib": "GiB reserved",
            },
            ".2f",
        ),
        "host memory": _listed(
            values,
            {
                "memory/host_peak_gib": "GiB at most in one process",
                "memory/host_peak_all_ranks_gib": "GiB in all",
            },
            ".2f",
        ),
        "skipped steps": str(facts.overflows) if facts.overflows else "",
        "checkpoints": "\n".join(str(path) for path in facts.checkpoints if path.exists()),
        "model": "" if facts.model is None else str(facts.model),
        "run folder": plan.run_dir,
        "MLflow run": run_id or "",
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(clean(text)))
    return table


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", stream: TextIO | None = None
) -> None:
    """Aligned columns without rules; long cells are folded, never cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", style=None, header_style="dim")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    out = console(stream)
    if title:
        print_text(out, f"\n{title}", style="bold")
    out.print(table)


def print_sweep(points: Sequence[Mapping[str, Any]], stream: TextIO | None = None) -> None:
    """One line for each point of a sweep: what differs, how it ended, how well it did and what it took."""
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
    """Overrides with more than one value over the sweep, in the order in which they were given."""
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


@contextmanager
def tolerant(stream: TextIO) -> Iterator[None]:
    """Lets a run go on when nobody listens any more (`| head`), or when the disk of its output is full.

    What is said afterwards, and what is still in the stream's buffer, goes nowhere.
    """
    try:
        yield
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def as_written(value: str) -> str:
    """A setting's value as a person writes it: Hydra makes 50000000.0 of 5e7."""
    try:
        given = float(value)
    except ValueError:
        return value
    if not math.isfinite(given) or given != int(given):
        return value
    digits = str(int(given)).rstrip("0")
    if abs(given) < 1e5 or len(digits) > 2:
        return str(int(given))
    mantissa, _, exponent = f"{given:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def clean(text: str) -> str:
    """The text without control characters, which could rewrite what the terminal shows."""
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text)


def _loss(point: Mapping[str, Any]) -> float:
    """What the points of a sweep are compared by; NaN without any."""
    summary = point["summary"]
    return float(summary.get("eval_loss", summary.get("train_loss", math.nan)))


def _listed(values: Mapping[str, Any], names: Mapping[str, str], form: str) -> str:
    """The values that are there, each with its explanation behind it."""
    parts = []
    for key, explanation in names.items():
        if key in values:
            parts.append(f"{float(values[key]):{form}} {explanation}".rstrip())
    return ", ".join(parts)


def console(stream: TextIO | None) -> "Console":
    """A console that takes no text for markup, and wraps no table because a pipe has no width."""
    from rich.console import Console

    out = stream or sys.stdout
    width = None if out.isatty() else _WIDTH_WITHOUT_TERMINAL
    return Console(file=out, width=width, markup=False, highlight=False, emoji=False)


def print_text(out: "Console", text: str, style: str | None = None) -> None:
    from rich.text import Text

    out.print(Text(clean(text), style=style or ""), soft_wrap=True)
