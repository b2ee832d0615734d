"""`zpipe plan [OVERRIDES]`: the dry run. It compiles, prints and writes the plan, and starts nothing."""

from typing import TYPE_CHECKING

from zpipe.cli.collection import without_garbage_collection
from zpipe.problems import Problem, Refusal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from zpipe.machine.hardware import Hardware

OVERVIEW = {
    "plan [OVERRIDES]": "everything except training: print and write the plan",
    "  --explain [KEY]": "instead: the file, override or rule that each value comes from",
    "  --gpus COUNTxNAME": "instead: the plan for another machine, such as 8xH100; nothing is written",
    "  --format FORMAT": "text, json, yaml or table",
    "  -m": "instead: check every point of a sweep; nothing is written",
}


def add_arguments(parser: "ArgumentParser") -> None:
    from zpipe.cli.output import FORMATS

    overrides = "GROUP=OPTION or KEY=VALUE; `zpipe --help` lists groups and options"
    explain = "print the file, override or rule that values come from, for one key, a block or all keys"
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=overrides)
    parser.add_argument("--explain", nargs="?", const="", metavar="KEY", help=explain)
    parser.add_argument("--format", choices=FORMATS, default="text", help="output format (default: text)")
    add_machine_arguments(parser)
    parser.add_argument("-m", "--multirun", action="store_true", help="check every point of a sweep")


def add_machine_arguments(parser: "ArgumentParser") -> None:
    """Options that describe another machine, and the folder of the user's options."""
    parser.add_argument("--gpus", metavar="COUNTxNAME", help="plan for a machine with these GPUs: 8xH100")
    memory = "with --gpus: its host memory in GiB (default: this machine's)"
    parser.add_argument("--host-memory", type=float, metavar="GIB", help=memory)
    parser.add_argument(
        "--cores", type=int, metavar="N", help="with --gpus: its cores (default: this machine's)"
    )
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="your own options: GROUP/OPTION.yaml")


def run(options: "Namespace") -> int:
    """Raises Refusal with every problem."""
    if options.multirun and options.explain is not None:
        reason = "cannot be combined with -m, because each point of a sweep has its own sources"
        raise Refusal([Problem("--explain", "", reason, "--explain or -m", "leave -m out")])
    if options.multirun:  # its points leave too much garbage
        return _plan(options)
    with without_garbage_collection():
        return _plan(options)


def _plan(options: "Namespace") -> int:
    from zpipe.compose.option_folders import use_config_dir

    use_config_dir(options.config_dir)
    hardware = hardware_of(options)
    if options.multirun:
        from zpipe.cli.plan_points import plan_points

        return plan_points(options.overrides, options.format, hardware)
    from zpipe.cli.plan_single import explain_plan, plan_run

    if options.explain is not None:
        return explain_plan(options.overrides, options.explain, options.format, hardware)
    return plan_run(options.overrides, options.format, hardware, is_here=options.gpus is None)


def hardware_of(options: "Namespace") -> "Hardware":
    """This machine, or the one that the options describe. Raises Refusal."""
    from zpipe.machine.hardware import detect

    if options.gpus is None and (options.host_memory is not None or options.cores is not None):
        given = "--host-memory" if options.host_memory is not None else "--cores"
        raise Refusal([Problem(given, "", "describes the machine of --gpus", "--gpus too", "--gpus 8xH100")])
    here = detect()
    if options.gpus is None:
        return here
    from zpipe.machine.known_gpus import other_machine

    return other_machine(options.gpus, options.host_memory, options.cores, here)
