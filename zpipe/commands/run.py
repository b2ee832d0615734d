"""`zpipe [OVERRIDES]`: a run, or with -m a sweep."""

import sys

from hydra._internal.utils import get_args_parser

from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.exits import Exit

HYDRA_ONLY = ("cfg", "info", "hydra_help", "version", "shell_completion")
"""Hydra's flags that print something and run nothing."""


def run(arguments: list[str]) -> int:
    """Hydra parses the command line; zpipe rewrites the overrides in it first. Raises Refusal."""
    parsed = get_args_parser().parse_args(arguments)
    flags = [argument for argument in arguments if argument not in parsed.overrides]
    overrides = rewrite(parsed.overrides)
    only_prints = any(getattr(parsed, name, None) for name in HYDRA_ONLY)
    if not only_prints and not parsed.multirun:
        _check(overrides)
    if not only_prints and parsed.multirun and not _some_point_can_run(overrides):
        return Exit.REFUSED
    sys.argv = ["zpipe", *flags, *overrides]
    from zpipe.compose.job import outcomes, run_under_hydra

    run_under_hydra()
    if parsed.multirun:
        from zpipe import sweep

        return sweep.exit_code
    return outcomes[-1].exit_code if outcomes else Exit.FINISHED


def _check(overrides: list[str]) -> None:
    """Composes and compiles once before Hydra makes the run folder, so that a refusal leaves nothing."""
    from zpipe.runner import prepare

    composed = compose_once(overrides)
    prepare(composed.experiment, composed.run_dir, overrides, composed.provenance)


def _some_point_can_run(overrides: list[str]) -> bool:
    """Says up front which points of a sweep are refused; they fail alone, the others run."""
    from zpipe.commands.points import print_refused
    from zpipe.compose.sweep import Unlistable
    from zpipe.planning import plan_sweep

    try:
        planned = plan_sweep(overrides)
    except Unlistable:
        return True
    print_refused(planned)
    return any(each.plan is not None for each in planned)
