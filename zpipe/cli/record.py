"""`zpipe record FOLDER`: brings MLflow up to date with a run folder or the folder of a sweep."""

from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

OVERVIEW = {"record FOLDER": "bring MLflow up to date with a run folder or the folder of a sweep"}


def add_arguments(parser: "ArgumentParser") -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="run folder, or folder of a sweep")
    parser.add_argument(
        "--uri", help="the MLflow store with its password (default: the store of the run, without a password)"
    )


def run(options: "Namespace") -> int:
    """Raises Refusal if the argument is not a run folder or the folder of a sweep."""
    from zpipe.runfolder.folder import PLAN_NAME, RunFolder
    from zpipe.sweep.definition import holds_sweep

    folder: Path = options.folder.absolute()
    if holds_sweep(folder):
        from zpipe.sweep.recording import record_sweep

        return record_sweep(folder, options.uri)
    if not RunFolder(folder).holds_run:
        reason = f"this folder has neither a {PLAN_NAME} nor a sweep.json"
        raise Refusal([Problem("record", str(options.folder), reason, "a run folder: outputs/DAY/TIME")])
    return _record_run(folder, options.uri)


def _record_run(folder: Path, uri: str | None) -> int:
    from zpipe.runfolder.folder import RunFolder
    from zpipe.runfolder.plan_file import is_only_planned
    from zpipe.running.recording import record_now
    from zpipe.terminal.console import show

    if is_only_planned(RunFolder(folder)):
        show("nothing to record: the plan was not started")
        return Exit.FINISHED
    result = record_now(folder, uri=uri)
    if not result.ok:
        show(f"{result.run_id or 'not recorded'}: {result.error}")
        return Exit.RECORD_INCOMPLETE
    if result.note:
        show(result.note)
    show(f"MLflow run {result.run_id}" if result.run_id else "nothing to record: the input was refused")
    return Exit.FINISHED
