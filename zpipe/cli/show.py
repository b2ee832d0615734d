"""`zpipe show RUN`: one run, from its folder or from MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.exits import Exit

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

OVERVIEW = {"show RUN": "one run: a run folder, or the beginning of its id in MLflow"}
_MAX_RUNS = 1000
"""The points of a sweep are looked up among this many of the newest runs."""


def add_arguments(parser: "ArgumentParser") -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or the beginning of an MLflow run id")
    parser.add_argument("--uri", help="MLflow store (default: outputs/mlflow.db)")


def run(options: "Namespace") -> int:
    """Raises Refusal if the run does not exist."""
    from zpipe.cli.run_details import print_folder
    from zpipe.runfolder.folder import RunFolder

    folder = RunFolder(Path(options.run).absolute())
    if folder.holds_run:
        print_folder(folder)
    else:
        _show_recorded(options.run, options.uri)
    return Exit.FINISHED


def _show_recorded(run_id: str, given_uri: str | None) -> None:
    from zpipe.cli.run_details import print_recorded
    from zpipe.cli.run_table import print_runs
    from zpipe.record.browse import find, recent
    from zpipe.record.store import tracking_uri

    uri = tracking_uri(given_uri)
    recorded = find(uri, run_id)
    print_recorded(recorded)
    is_sweep = not recorded.params
    if is_sweep:
        print_runs([each for each in recent(uri, None, _MAX_RUNS) if each.parent == recorded.run_id])
