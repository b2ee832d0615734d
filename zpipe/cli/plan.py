"""`zpipe plan [OVERRIDES]`: the dry run. It compiles, prints and writes the plan, and starts nothing."""

from typing import TYPE_CHECKING

from zpipe.cli.collection import without_garbage_collection
from zpipe.problems import Problem, Refusal, refuse_if_any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

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
    memory = "with --gpus: its host memory in GiB (default: as in conf/hardware)"
    parser.add_argument("--host-memory", type=float, metavar="GIB", help=memory)
    parser.add_argument(
        "--cores", type=int, metavar="N", help="with --gpus: its cores (default: as in conf/hardware)"
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
    from zpipe.machine.hardware import detect

    use_config_dir(options.config_dir)
    overrides, hardware = [*options.overrides, *described_machine(options)], detect()
    if options.multirun:
        from zpipe.cli.plan_points import plan_points

        return plan_points(overrides, options.format, hardware)
    from zpipe.cli.plan_single import explain_plan, plan_run

    if options.explain is not None:
        return explain_plan(overrides, options.explain, options.format, hardware)
    return plan_run(overrides, options.format, hardware, is_here=options.gpus is None)


def described_machine(options: "Namespace") -> list[str]:
    """The overrides that describe the machine of --gpus. Raises Refusal."""
    if options.gpus is None and (options.host_memory is not None or options.cores is not None):
        alone = "--host-memory" if options.host_memory is not None else "--cores"
        raise Refusal([Problem(alone, "", "describes the machine of --gpus", "--gpus too", "--gpus 8xH100")])
    if options.gpus is None:
        return []
    described = [each for each in options.overrides if each.startswith("hardware=")]
    if described:
        reason = f"{described[0]} describes another machine"
        raise Refusal([Problem("--gpus", options.gpus, reason, "one of the two", "leave --gpus out")])
    from zpipe.machine.cards import count_and_option

    host, cores, problems = options.host_memory, options.cores, []
    if host is not None and not 0 < host < 2**20:
        problems.append(Problem("--host-memory", host, "not an amount", "GiB above 0", "--host-memory 512"))
    if cores is not None and cores < 1:
        problems.append(Problem("--cores", cores, "not a number of cores", "1 or more", "--cores 64"))
    refuse_if_any(problems)
    count, option = count_and_option(options.gpus, "--gpus", "--gpus ")
    given = {"hardware.host_memory_gib": host, "hardware.cores": cores}
    further = [f"{key}={value}" for key, value in given.items() if value is not None]
    return [f"hardware={option}", f"hardware.gpus_per_node={count}", *further]
