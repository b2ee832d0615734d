"""`zpipe runs`: the runs of a store, newest first, with the points of a sweep below it."""

from typing import TYPE_CHECKING

from zpipe.cli.collection import without_garbage_collection
from zpipe.exits import Exit

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

OVERVIEW = {"runs": "the recorded runs, newest first"}
_MAX_RUNS = 50_000
"""MLflow refuses to return more in one search (SEARCH_MAX_RESULTS_THRESHOLD)."""


def add_arguments(parser: "ArgumentParser") -> None:
    from zpipe.cli.arguments import whole_number

    limit = whole_number("--limit", 1, _MAX_RUNS)
    parser.add_argument("--uri", help="MLflow store (default: outputs/mlflow.db)")
    parser.add_argument("--experiment", help="list only the runs of this experiment")
    parser.add_argument("--limit", type=limit, default=50, help="number of runs to list (default: 50)")


def run(options: "Namespace") -> int:
    """Raises Refusal if the store or the experiment does not exist."""
    from zpipe.cli.run_table import print_runs
    from zpipe.record.browse import recent
    from zpipe.record.store import tracking_uri

    with without_garbage_collection():
        print_runs(recent(tracking_uri(options.uri), options.experiment, options.limit))
    return Exit.FINISHED
