"""`zpipe [OVERRIDES]`: a run, or with -m a sweep."""

from zpipe.compile.compiler import compile_plan
from zpipe.compose.command_line import parse_arguments
from zpipe.compose.compose import ComposedRun, compose_once
from zpipe.compose.option_folders import use_config_dir
from zpipe.compose.overrides import as_typed, given_overrides, rewrite
from zpipe.exits import Exit
from zpipe.machine.hardware import detect
from zpipe.problems import refuse_if_any
from zpipe.runfolder.outcome import Outcome

HYDRA_ONLY = ("cfg", "info", "hydra_help", "version", "shell_completion", "experimental_rerun")
"""Hydra's flags that zpipe leaves to Hydra."""


def run(arguments: list[str]) -> int:
    """Composes, checks and compiles once; a refusal leaves nothing behind. Raises Refusal."""
    parsed = parse_arguments(arguments)
    use_config_dir(parsed.config_dir)
    if any(getattr(parsed, name, None) for name in HYDRA_ONLY):
        from zpipe.compose.job import hand_over

        if not parsed.shell_completion:
            parsed.overrides = rewrite(parsed.overrides)
        hand_over(parsed)
        return Exit.FINISHED
    if parsed.multirun:
        from zpipe.cli.multirun import start

        return start(arguments)
    composed = compose_once(rewrite(parsed.overrides))
    if composed.is_multirun:
        from zpipe.cli.multirun import start

        return start([*arguments, "--multirun"])
    return run_composed(composed).exit_code


def run_composed(composed: ComposedRun) -> Outcome:
    """The plan that is checked is the plan that runs. Raises Refusal."""
    from zpipe.compose.job import run_as_job
    from zpipe.run.runner import run_plan, start_problems

    hardware = detect()
    command = [as_typed(text) for text in given_overrides(composed.config.hydra)[1]]
    plan = compile_plan(composed.experiment, composed.run_dir, command, hardware, composed.provenance)
    refuse_if_any(start_problems(plan))
    return run_as_job(composed, lambda: run_plan(plan, hardware))
