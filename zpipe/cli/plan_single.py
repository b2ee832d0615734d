"""`zpipe plan` and `zpipe plan --explain`: the plan of one run, and the sources of its values."""

from dataclasses import asdict

from zpipe.cli.output import Format, is_data, print_data
from zpipe.cli.plan_resume import resume_problems, resume_rows
from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import ComposedRun, compose_once, meeting_problems
from zpipe.compose.overrides import rewrite
from zpipe.compose.queued import repeated_command, settled
from zpipe.compose.repeat import continued
from zpipe.exits import Exit
from zpipe.machine.disk import unwritable
from zpipe.machine.hardware import Hardware
from zpipe.machine.target import target_hardware
from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.record.store import tracking_problems
from zpipe.runfolder.plan_file import folder_of, write_plan
from zpipe.running.start import for_attempt, start_of
from zpipe.running.this_machine import not_this_machine
from zpipe.terminal.choice_text import choice_lines
from zpipe.terminal.console import say, show
from zpipe.terminal.plan_text import Rows, facts, render
from zpipe.terminal.units import size


def plan_run(overrides: list[str], form: Format, hardware: Hardware, is_here: bool = True) -> int:
    """Prints the plan, and writes it to a new run folder unless it is for another machine. Raises Refusal.

    Of a folder that holds a run it prints how the run would go on, and refuses what the run would refuse.
    """
    overrides = continued(overrides)
    composed = compose_once(rewrite(overrides))
    if composed.is_multirun:
        from zpipe.cli.plan_points import plan_points

        return plan_points(overrides, form, hardware)
    compiled = compile_composed(composed, overrides, hardware)
    if not is_here or not_this_machine(compiled, hardware):
        _print_plan_elsewhere(without_secrets(compiled), form, hardware)
        return Exit.FINISHED
    folder = folder_of(compiled)
    refuse_if_any(meeting_problems(composed))
    refuse_if_any([*resume_problems(compiled), *unwritable(folder.path)])
    start = start_of(compiled)
    rows = resume_rows(compiled, start)
    if start.attempt > 1:
        shown = without_secrets(for_attempt(compiled, folder.numbered(start.attempt)))
    else:
        shown = write_plan(compiled)
    print_plan(shown, form, rows, is_written=start.attempt == 1)
    return Exit.FINISHED


def explain_plan(overrides: list[str], key: str, form: Format, hardware: Hardware) -> int:
    """Prints the sources of the key, or of all keys if it is empty; writes nothing. Raises Refusal."""
    overrides = continued(overrides)
    compiled = compile_composed(compose_once(rewrite(overrides)), overrides, hardware)
    if key == "auto":
        _print_guide(compiled, form, hardware)
    else:
        print_explanations(without_secrets(compiled), key, form)
    return Exit.FINISHED


def _print_guide(compiled: Plan, form: Format, hardware: Hardware) -> None:
    """How the choice follows from the guide's steps. Raises Refusal without an automatic group."""
    from zpipe.explain.guide import COLUMNS, guide, rows
    from zpipe.terminal.console import print_table

    if compiled.choice is None:
        fix = "--explain auto stage=auto offload=auto batch=auto activation_checkpointing=auto"
        reason = "nothing is chosen by this plan"
        raise Refusal([Problem("explain", "auto", reason, "with an automatic group", fix)])
    steps = guide(compiled, hardware)
    if is_data(form):
        print_data([{**vars(step), "fits": [fit.model_dump() for fit in step.fits]} for step in steps], form)
        return
    print_table(COLUMNS, rows(steps))
    show("\n".join(["", *choice_lines(compiled.choice), ""]), end="")


def compile_composed(composed: ComposedRun, overrides: list[str], hardware: Hardware) -> Plan:
    """The plan of what these overrides were composed to. Raises Refusal."""
    command = repeated_command(composed, overrides, overrides)
    plan = compile_plan(
        composed.experiment, composed.run_dir, command, hardware, composed.provenance, settled(composed)
    )
    refuse_if_any(tracking_problems(plan.experiment.tracking))
    return plan


def print_explanations(compiled: Plan, key: str, form: Format) -> None:
    """Prints a page for one key, or a line for each of several keys. Raises Refusal for an unknown key."""
    from zpipe.explain.explain import COLUMNS, explain, page, rows
    from zpipe.terminal.console import print_table

    explanations = explain(compiled, key)
    if is_data(form):
        print_data([asdict(each) for each in explanations], form)
    elif len(explanations) == 1 and form == "text":
        show(page(explanations[0]), end="")
    else:
        print_table(COLUMNS, rows(explanations))


def print_plan(compiled: Plan, form: Format, rows: Rows = (), is_written: bool = True) -> None:
    """Prints the plan in one of the formats, after further rows. Data is the plan alone."""
    if is_data(form):
        for title, text in rows:
            say(f"{title}: {text}")
        print_data(compiled.model_dump(mode="json"), form)
    elif form == "table":
        from zpipe.terminal.console import print_table

        print_table(("", "plan"), [*rows, *facts(compiled)])
        print_explanations(compiled, "", form)
    else:
        show(render(compiled, rows, is_written), end="")


def _print_plan_elsewhere(compiled: Plan, form: Format, here: Hardware) -> None:
    if form != "text":
        print_plan(compiled, form)
        return
    experiment = compiled.experiment
    node = target_hardware(experiment.hardware, experiment.launcher, here)
    gpus = f"{len(node.gpus)} x {node.gpus[0].name}" if node.gpus else "no GPU"
    rows = [("machine", f"{gpus}, {node.cores} cores, {size(node.memory)} of host memory")]
    show(render(compiled, rows, is_written=False), end="")
