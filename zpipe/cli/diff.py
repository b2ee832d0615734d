"""`zpipe diff RUN_A RUN_B`: what differs between two plans, and who set it."""

import argparse
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from zpipe.cli.output import FORMATS, Format, is_data, print_data
from zpipe.exits import Exit
from zpipe.explain.compare import Difference, Side, differences
from zpipe.explain.explain import shown
from zpipe.runfolder.plan_file import read_plan
from zpipe.terminal.console import print_table


def diff(arguments: list[str]) -> int:
    """Exit code 0 whether or not something differs. Raises Refusal for what is no plan."""
    parser = argparse.ArgumentParser(prog="zpipe diff", description=__doc__)
    parser.add_argument("a", metavar="RUN_A", help="a run folder, or a plan.json")
    parser.add_argument("b", metavar="RUN_B", help="the other one")
    parser.add_argument("--format", choices=FORMATS, default="text")
    options = parser.parse_args(arguments)
    found = differences(read_plan(Path(options.a)), read_plan(Path(options.b)))
    print_differences(found, options.format)
    return Exit.FINISHED


def print_differences(found: list[Difference], form: Format) -> None:
    """A table for each section, or plain data."""
    if is_data(form):
        print_data([asdict(each) for each in found], form)
    elif not found:
        print("no difference")
    for section, each in groupby(
        found if not is_data(form) else (), key=lambda difference: difference.section
    ):
        print_table((section, "A", "B"), ((one.key, _cell(one.a), _cell(one.b)) for one in each))
        print()


def _cell(side: Side) -> str:
    return f"{shown(side.value)}  ({side.source})" if side.source else shown(side.value)
