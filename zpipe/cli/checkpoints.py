"""`zpipe checkpoints RUN`: the checkpoints of a run, which of them are intact, and how the run goes on."""

from typing import TYPE_CHECKING

from zpipe.exits import Exit

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from zpipe.checkpoints.state import CheckpointState
    from zpipe.runfolder.folder import RunFolder

OVERVIEW = {
    "checkpoints RUN": "the checkpoints of a run, verified: which are intact, and how it goes on",
    "  --quick": "compare names and sizes only",
    "  --best METRIC": "also: the checkpoint with the best value of a metric",
}


def add_arguments(parser: "ArgumentParser") -> None:
    from zpipe.cli.output import FORMATS

    best = "also name the checkpoint with the best value of this metric, such as eval_loss"
    parser.add_argument("run", metavar="RUN", help="run folder, or the beginning of an MLflow run id")
    parser.add_argument("--quick", action="store_true", help="compare names and sizes, not the content")
    parser.add_argument("--best", metavar="METRIC", help=best)
    parser.add_argument("--format", choices=FORMATS, default="text", help="output format (default: text)")
    parser.add_argument("--uri", help="MLflow store (default: outputs/mlflow.db)")


def run(options: "Namespace") -> int:
    """REFUSED if no checkpoint is good, unless there are none at all. Raises Refusal if there is no run."""
    from zpipe.checkpoints.best import values_of
    from zpipe.cli.checkpoint_list import CheckpointList
    from zpipe.cli.find_run import folder_of
    from zpipe.runfolder.outcome import read_outcome

    folder = folder_of(options.run, options.uri)
    if options.format == "text":
        read_outcome(folder)  # the last line needs it: a damaged one is refused before anything is printed
    values = {} if options.best is None else values_of(folder, options.best)
    found = _inspected(folder, options.quick)
    listed = CheckpointList(folder, found, not options.quick, options.best, values)
    listed.show(options.format)
    return Exit.REFUSED if listed.is_useless else Exit.FINISHED


def _inspected(folder: "RunFolder", quick: bool) -> "list[CheckpointState]":
    from zpipe.checkpoints.home import home_in
    from zpipe.checkpoints.state import UNKNOWN_RUN
    from zpipe.checkpoints.survey import bytes_to_verify, survey, verified
    from zpipe.runfolder.attempt_start import first_start
    from zpipe.terminal.byte_progress import byte_progress

    start = first_start(folder)
    run_id = start.run_id if start else UNKNOWN_RUN
    found = survey(home_in(folder), run_id)
    if quick:
        return found
    with byte_progress("verifying", bytes_to_verify(found)) as on_bytes:
        return verified(found, run_id, on_bytes)
