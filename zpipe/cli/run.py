"""`zpipe [OVERRIDES]`: a run, or with -m a sweep."""

from hydra._internal.utils import get_args_parser

from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import as_typed, rewrite
from zpipe.exits import Exit
from zpipe.machine.hardware import detect
from zpipe.problems import refuse_if_any

HYDRA_ONLY = ("cfg", "info", "hydra_help", "version", "shell_completion", "experimental_rerun")
"""Hydra's flags that zpipe leaves to Hydra."""


def run(arguments: list[str]) -> int:
    """Composes, checks and compiles once; a refusal leaves nothing behind. Raises Refusal."""
    parsed = get_args_parser().parse_args(arguments)
    if any(getattr(parsed, name, None) for name in HYDRA_ONLY):
        from zpipe.compose.job import print_for

        parsed.overrides = rewrite(parsed.overrides)
        print_for(parsed)
        return Exit.FINISHED
    if parsed.multirun:
        from zpipe.cli.multirun import start

        return start(arguments)
    return run_once(rewrite(parsed.overrides))


def run_once(overrides: list[str]) -> int:
    """One run of rewritten overrides: the plan that is checked is the plan that runs. Raises Refusal."""
    from zpipe.compose.job import run_as_job
    from zpipe.run.runner import run_plan, start_problems

    composed, hardware = compose_once(overrides), detect()
    command = [as_typed(text) for text in composed.config.hydra.overrides.task]
    plan = compile_plan(composed.experiment, composed.run_dir, command, hardware, composed.provenance)
    refuse_if_any(start_problems(plan))
    return run_as_job(composed, lambda: run_plan(plan, hardware)).exit_code
