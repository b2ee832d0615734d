"""`zpipe rerun RUN [OVERRIDES]`: a new run with the settings of an earlier one."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

OVERVIEW = {"rerun RUN [OVERRIDES]": "repeat a run in a new folder, with changes"}


def add_arguments(parser: "ArgumentParser") -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or the beginning of an MLflow run id")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="changes: GROUP=OPTION or KEY=VALUE")
    parser.add_argument("--uri", help="MLflow store (default: outputs/mlflow.db)")


def run(options: "Namespace") -> int:
    """Raises Refusal if the run does not exist, or if its plan sets what only the command line may."""
    from zpipe.cli.find_run import folder_of
    from zpipe.compose.compose import compose_once
    from zpipe.compose.job import run_composed
    from zpipe.compose.overrides import rewrite
    from zpipe.compose.repeat import repeating
    from zpipe.runfolder.plan_file import read_plan

    plan = read_plan(folder_of(options.run, options.uri).path)
    composed = compose_once(rewrite(repeating(plan, options.overrides)))
    return run_composed(composed).exit_code
