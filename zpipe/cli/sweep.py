"""`zpipe sweep resume FOLDER` and `zpipe sweep report FOLDER`."""

from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

OVERVIEW = {
    "sweep resume FOLDER": "run the points that a sweep is missing",
    "sweep report FOLDER": "write the report of a sweep again",
}


def add_arguments(parser: "ArgumentParser") -> None:
    parser.description = "Run the missing points of a sweep, or write its report again."
    parser.add_argument("action", choices=("resume", "report"), metavar="ACTION", help="resume or report")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the sweep, with a sweep.json")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="OVERRIDE", help="for resume: overrides for this session"
    )
    parser.add_argument("--refused", action="store_true", help="for resume: also try refused points again")


def run(options: "Namespace") -> int:
    """Raises Refusal if the folder is not a sweep, or if the sweep cannot be resumed."""
    folder = options.folder.absolute()
    if options.action == "resume":
        return _resume(folder, options.overrides, options.refused)
    if options.overrides:
        reason = "`zpipe sweep report` does not accept overrides"
        raise Refusal([Problem(text, "", reason, fix="leave it out") for text in options.overrides])
    return _report(folder)


def _resume(folder: Path, overrides: list[str], again: bool) -> int:
    from zpipe.cli.multirun import resume
    from zpipe.sweep.resume import prepare

    return resume(prepare(folder, overrides, again), folder)


def _report(folder: Path) -> int:
    from zpipe.sweep.definition import read_definition
    from zpipe.sweep.session import close_sweep

    if read_definition(folder) is None:
        reason = "there is no sweep.json in this folder"
        raise Refusal([Problem("sweep", str(folder), reason, "outputs/multirun/DAY/TIME")])
    close_sweep(folder, uri=None)
    return Exit.FINISHED
