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
