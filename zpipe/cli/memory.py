"""`zpipe memory [OVERRIDES]`: what a run is predicted to need of GPU, host and disk, term by term."""

from typing import TYPE_CHECKING

from zpipe.cli.plan import add_machine_arguments, described_machine
from zpipe.exits import Exit

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from zpipe.cli.output import Format
    from zpipe.plans.plan import Plan

OVERVIEW = {
    "memory [OVERRIDES]": "what a run is predicted to need of GPU, host and disk; --gpus as for plan",
}


def add_arguments(parser: "ArgumentParser") -> None:
    from zpipe.cli.output import FORMATS

    overrides = "GROUP=OPTION or KEY=VALUE; `zpipe --help` lists groups and options"
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=overrides)
    parser.add_argument("--format", choices=FORMATS, default="text", help="output format (default: text)")
    add_machine_arguments(parser)


def run(options: "Namespace") -> int:
    """Exit code 0 whether or not it fits. Raises Refusal for a plan with other problems."""
    from zpipe.compose.option_folders import use_config_dir

    use_config_dir(options.config_dir)
    print_memory(_compiled([*options.overrides, *described_machine(options)]), options.format)
    return Exit.FINISHED


def print_memory(plan: "Plan", form: "Format") -> None:
    """Prints the tables, after the first lines of the plan for `text`, or plain data."""
    from zpipe.cli.output import is_data, print_data
    from zpipe.terminal.console import print_table, show
    from zpipe.terminal.memory_text import COLUMNS, blocks, cells, estimate_rows, memory_data, memory_line
    from zpipe.terminal.plan_text import facts

    if is_data(form):
        print_data(memory_data(plan), form)
        return
    if form == "text":
        shown = [(title, text) for title, text in facts(plan) if title in ("model", "device", "batch")]
        for title, text in [*shown, ("memory", memory_line(plan))]:
            show(f"{title:<10} {text}")
    for block in blocks(plan):
        show("")
        print_table((block.title, *COLUMNS), map(cells, block.lines))
    rows = estimate_rows(plan)
    show("" if rows else "\nDeepSpeed has no estimate for this stage and offload")
    if rows:
        print_table(("DeepSpeed's estimate, of model states alone", "GiB here", "DeepSpeed's"), rows)


def _compiled(overrides: list[str]) -> "Plan":
    """The plan, also if it does not fit."""
    from zpipe.compile.compiler import compile_plan
    from zpipe.compose.compose import compose_once
    from zpipe.compose.overrides import rewrite
    from zpipe.compose.repeat import continued
    from zpipe.machine.hardware import detect
    from zpipe.problems import Problem, Refusal
    from zpipe.schema.memory import Memory

    composed = compose_once(rewrite(continued(overrides)))
    if composed.is_multirun:
        reason = "these overrides describe a sweep"
        raise Refusal([Problem("overrides", "", reason, fix="the overrides of one of its points")])
    experiment = composed.experiment.model_copy(update={"memory": Memory(check="warn")})
    return compile_plan(experiment, composed.run_dir, list(overrides), detect(), composed.provenance)
