"""`zpipe [OVERRIDES]`: a run, or with -m a sweep."""

from hydra._internal.utils import get_args_parser

from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.exits import Exit

HYDRA_ONLY = ("cfg", "info", "hydra_help", "version", "shell_completion")
"""Hydra's flags that print something and run nothing."""


def run(arguments: list[str]) -> int:
    """Hydra parses the command line; zpipe rewrites the overrides in it first. Raises Refusal."""
    parsed = get_args_parser().parse_args(arguments)
    only_prints = any(getattr(parsed, name, None) for name in HYDRA_ONLY)
    if parsed.multirun and not only_prints:
        from zpipe.cli.multirun import start

        return start(arguments)
    overrides = rewrite(parsed.overrides)
    if not only_prints:
        _check(overrides)
    from zpipe.compose.job import hand_over, outcomes

    hand_over([argument for argument in arguments if argument not in parsed.overrides], overrides)
    return outcomes[-1].exit_code if outcomes else Exit.FINISHED


def _check(overrides: list[str]) -> None:
    """Composes and compiles once before Hydra makes the run folder, so that a refusal leaves nothing."""
    from zpipe.run.runner import prepare

    composed = compose_once(overrides)
    prepare(composed.experiment, composed.run_dir, overrides, composed.provenance)
