"""The output of `zpipe show`: the details of one run."""

from rich.table import Table
from rich.text import Text

from zpipe.cli.attempt_table import print_attempts
from zpipe.cli.run_table import offload_of
from zpipe.record.browse import RecordedRun
from zpipe.record.facts import COMMAND_TAG, command_line
from zpipe.record.state import read_state
from zpipe.runfolder.figures import (
    EVAL_LOSS,
    GPU_PEAK,
    HOST_PEAK,
    LAST_LOSS,
    MFU,
    PREDICTED_HOST,
    PREDICTED_RESERVED,
    SPEED,
    TFLOPS,
    figures_so_far,
)
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.foreign_files import is_regular, read_end
from zpipe.runfolder.outcome import Outcome, read_outcome
from zpipe.runfolder.plan_file import read_plan_here
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.terminal.console import clean, console, print_text
from zpipe.terminal.summary import summary_table
from zpipe.terminal.units import duration, number

_MOST_SHOWN = 1 << 18
"""Bytes of a post-mortem."""


def print_folder(folder: RunFolder) -> None:
    """Prints the run in this folder; it need not be in MLflow. Raises Refusal for an invalid plan."""
    plan, outcome, state = read_plan_here(folder), read_outcome(folder), read_state(folder)
    progress = RunProgress.of(RunEvents(folder).read_new())
    progress.attempts = max(progress.attempts, len(folder.attempts))  # some may have reported no event
    out = console(None)
    text, style = _headline(folder, outcome)
    print_text(out, text, style=style)
    print_text(out, f"{command_line(plan)}\n", style="dim")
    summary = (outcome.summary if outcome else {}) or figures_so_far(progress.values, plan.memory)
    run_id = outcome.mlflow_run_id if outcome else state.run_id if state else None
    out.print(summary_table(plan, summary, progress, run_id))
    print_attempts(folder)
    postmortem = folder.attempt.postmortem
    if is_regular(postmortem):
        print_text(out, f"\n{read_end(postmortem, _MOST_SHOWN)}")


def print_recorded(run: RecordedRun) -> None:
    """Prints a run as recorded in MLflow."""
    out = console(None)
    ended = " ".join(filter(None, [run.status, run.ending.replace("_", " ")]))
    print_text(out, f"{run.name}: {ended}", style="bold" if run.status == "FINISHED" else "bold red")
    print_text(out, f"{run.tags.get(COMMAND_TAG, '')}\n", style="dim")
    mfu = run.metric(*MFU)
    rows = {
        "error": run.error,
        "settings": "\n".join(f"{name}  {value}" for name, value in sorted(run.params.items())),
        "offload": offload_of(run),
        "attempts": str(run.attempts) if run.attempts > 1 else "",
        "train loss": number(run.metric(*LAST_LOSS)),
        "eval loss": number(run.metric(*EVAL_LOSS)),
        "tokens/s": number(run.metric(*SPEED)),
        "TFLOP/s per device": number(run.metric(*TFLOPS)),
        "MFU": "" if mfu is None else f"{mfu:.1%}",
        "peak GPU memory": f"{number(run.metric(*GPU_PEAK))} GiB",
        "peak host memory": f"{number(run.metric(*HOST_PEAK))} GiB",
        "predicted GPU memory": f"{number(run.metric(PREDICTED_RESERVED))} GiB",
        "predicted host memory": f"{number(run.metric(PREDICTED_HOST))} GiB",
        "time": "" if run.seconds is None else duration(run.seconds),
        "run folder": str(run.folder or ""),
        "MLflow run": run.run_id,
        "sweep": run.parent or "",
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        if text and not text.startswith("?"):
            table.add_row(name, Text(clean(text)))
    out.print(table)


def _headline(folder: RunFolder, outcome: Outcome | None) -> tuple[str, str]:
    """The ending of the run and the style to print it in."""
    if not folder.attempts:
        return "a plan that was not started", "bold"
    if outcome is None:
        return "no result: the run is in progress, or was killed", "bold yellow"
    reason = f": {outcome.reason}" if outcome.reason else ""
    style = "bold" if outcome.ending == "finished" else "bold red"
    return f"{outcome.ending.replace('_', ' ')}{reason}", style
