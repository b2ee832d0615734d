"""`zpipe doctor [OVERRIDES]`: whether this machine, or with --launch all nodes together, can run the plan."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from zpipe.compose.compose import ComposedRun
    from zpipe.machine.hardware import Hardware
    from zpipe.plans.plan import Plan

OVERVIEW = {
    "doctor [OVERRIDES]": "whether this machine has what the run needs; nothing is trained or kept",
    "  --launch": "also start the launcher on all nodes: who joins, clocks, disks, an all-reduce",
}


def add_arguments(parser: "ArgumentParser") -> None:
    overrides = "those of the run: GROUP=OPTION or KEY=VALUE; `zpipe --help` lists groups and options"
    launch = (
        "start the launcher with a short check instead of the training; on several nodes, start it on each"
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=overrides)
    parser.add_argument("--launch", action="store_true", help=launch)
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="your own options: GROUP/OPTION.yaml")


def run(options: "Namespace") -> int:
    """REFUSED if the nodes do not agree, ENVIRONMENT if something is missing. Raises Refusal for the plan."""
    from zpipe.cli.doctor_tables import show_findings
    from zpipe.compose.compose import compose_once
    from zpipe.compose.option_folders import use_config_dir
    from zpipe.compose.overrides import rewrite
    from zpipe.compose.repeat import continued
    from zpipe.launchers import launcher_of
    from zpipe.machine.hardware import detect
    from zpipe.running.preflight import check_here, check_together, take_part
    from zpipe.running.runner import print_warnings

    use_config_dir(options.config_dir)
    overrides, hardware = continued(options.overrides), detect()
    composed = compose_once(rewrite(overrides))
    plan = _compiled(composed, overrides, hardware, options.launch)
    print_warnings(plan)
    if not options.launch:
        findings = check_here(plan, hardware)
    elif launcher_of(plan.launch.launcher).queues:
        from zpipe.running.preflight_job import check_in_a_job

        return check_in_a_job(plan)
    elif plan.experiment.launcher.node_rank > 0:
        return take_part(plan, hardware)
    else:
        findings = check_together(plan, hardware)
    show_findings(findings)
    return findings.exit_code


def _compiled(
    composed: "ComposedRun", overrides: list[str], hardware: "Hardware", is_together: bool
) -> "Plan":
    """Raises Refusal; node 0 is told if it waits for this node."""
    from zpipe.cli.plan_single import compile_composed
    from zpipe.machine.disk import unwritable
    from zpipe.problems import Refusal, refuse_if_any
    from zpipe.running.member import tell_refusal
    from zpipe.running.preflight import FOLDER_NAME
    from zpipe.running.this_machine import not_this_machine

    if composed.is_multirun:
        from zpipe.problems import Problem

        reason = "a sweep has many plans, and this checks one"
        raise Refusal([Problem("overrides", "", reason, fix="the overrides of one of its points")])
    try:
        plan = compile_composed(composed, overrides, hardware)
        refuse_if_any([*unwritable(composed.run_dir), *not_this_machine(plan, hardware)])
    except Refusal as refusal:
        if is_together and composed.experiment.launcher.node_rank > 0:
            tell_refusal(composed.experiment, composed.run_dir / FOLDER_NAME, refusal)
        raise
    return plan
