"""`zpipe show RUN`: one run, from its folder or from MLflow."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.cli.find_run import is_run_folder
from zpipe.cli.runs import GPU_PEAK, HOST_PEAK, LOSSES, SPEEDS, offload_of, print_runs
from zpipe.exits import Exit
from zpipe.plan.plan import read_plan
from zpipe.record.store import tracking_uri
from zpipe.runfolder.outcome import POSTMORTEM, read_outcome

if TYPE_CHECKING:
    from zpipe.record.browse import Recorded


def show(arguments: list[str]) -> int:
    """Raises Refusal if there is no such run."""
    parser = argparse.ArgumentParser(prog="zpipe show", description=__doc__)
    parser.add_argument("run", help="run folder, or the beginning of an MLflow run id")
    parser.add_argument("--uri", help="MLflow store; outputs/mlflow.db unless given")
    options = parser.parse_args(arguments)
    folder = Path(options.run)
    if is_run_folder(folder):
        show_folder(folder.absolute())
        return Exit.FINISHED
    from zpipe.record.browse import find, recent

    uri = tracking_uri(options.uri)
    run = find(uri, options.run)
    _show_recorded(run)
    if run.params == {}:
        print_runs([each for each in recent(uri, None, 1000) if each.parent == run.run_id])
    return Exit.FINISHED


def show_folder(folder: Path) -> None:
    """The run of this folder, whether or not MLflow has it."""
    from zpipe.record.state import read_state
    from zpipe.runfolder.event_file import EventReader
    from zpipe.terminal.live import Progress
    from zpipe.terminal.summary import console, print_text, summary_table

    plan = read_plan(folder).model_copy(update={"run_dir": str(folder)})
    outcome, state = read_outcome(folder), read_state(folder)
    with Path("/dev/null").open("w") as nowhere:
        progress = Progress(plan, stream=nowhere, is_terminal=False)
        for event in EventReader(folder).read_new():
            progress.handle(event)
    out = console(None)
    if outcome is None:
        print_text(out, "no result: the run goes on, or was killed", style="bold yellow")
    else:
        reason = f": {outcome.reason}" if outcome.reason else ""
        style = "bold" if outcome.ending == "finished" else "bold red"
        print_text(out, f"{outcome.ending.replace('_', ' ')}{reason}", style=style)
    print_text(out, f"zpipe {' '.join(plan.command)}\n", style="dim")
    summary = outcome.summary if outcome else {}
    run_id = outcome.mlflow_run_id if outcome else state.run_id if state else None
    out.print(summary_table(plan, summary, progress.facts, run_id))
    if (folder / POSTMORTEM).is_file():
        print_text(out, f"\n{(folder / POSTMORTEM).read_text()}")


def _show_recorded(run: "Recorded") -> None:
    from rich.table import Table
    from rich.text import Text

    from zpipe.terminal.summary import clean, console, print_text
    from zpipe.terminal.units import duration, number

    out = console(None)
    ended = " ".join(filter(None, [run.status, run.ending.replace("_", " ")]))
    print_text(out, f"{run.name}: {ended}", style="bold" if run.status == "FINISHED" else "bold red")
    print_text(out, f"{run.tags.get('mlflow.source.name', '')}\n", style="dim")
    rows = {
        "error": run.error,
        "settings": "\n".join(f"{name}  {value}" for name, value in sorted(run.params.items())),
        "offload": offload_of(run),
        "loss": number(run.figure(*LOSSES)),
        "tokens/s": number(run.figure(*SPEEDS)),
        "peak GPU memory": f"{number(run.figure(*GPU_PEAK))} GiB",
        "peak host memory": f"{number(run.figure(*HOST_PEAK))} GiB",
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
