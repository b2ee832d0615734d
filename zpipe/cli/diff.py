"""`zpipe diff RUN_A RUN_B`: the differences between two plans, and the source of each value."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.exits import Exit

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from zpipe.cli.output import Format
    from zpipe.explain.compare import Difference, Side

OVERVIEW = {"diff RUN_A RUN_B": "differences between the plans of two runs, with their sources"}


def add_arguments(parser: "ArgumentParser") -> None:
    from zpipe.cli.output import FORMATS

    parser.add_argument("a", metavar="RUN_A", help="a run folder, or a plan.json")
    parser.add_argument("b", metavar="RUN_B", help="the other one")
    parser.add_argument("--format", choices=FORMATS, default="text", help="output format (default: text)")


def run(options: "Namespace") -> int:
    """Exit code 0 whether or not there are differences. Raises Refusal for a file that is not a plan."""
    from zpipe.explain.compare import differences
    from zpipe.runfolder.plan_file import read_plan

    found = differences(read_plan(Path(options.a)), read_plan(Path(options.b)))
    print_differences(found, options.format)
    return Exit.FINISHED


def print_differences(found: "list[Difference]", form: "Format") -> None:
    """Prints a table for each section, or plain data."""
    from dataclasses import asdict

    from zpipe.cli.output import is_data, print_data
    from zpipe.terminal.console import print_table

    if is_data(form):
        print_data([asdict(each) for each in found], form)
        return
    if not found:
        print("no difference")
    for section, group in groupby(found, key=lambda difference: difference.section):
        print_table((section, "A", "B"), ((each.key, _cell(each.a), _cell(each.b)) for each in group))
        print()


def _cell(side: "Side") -> str:
    from zpipe.explain.explain import shown

    return f"{shown(side.value)}  ({side.source})" if side.source else shown(side.value)
