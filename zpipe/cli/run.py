"""`zpipe [OVERRIDES]`: a run, or with -m a sweep."""

from zpipe.compose.command_line import parse_arguments
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.compose.repeat import continued
from zpipe.exits import Exit

HYDRA_ONLY = ("cfg", "info", "hydra_help", "version", "shell_completion", "experimental_rerun")
"""Hydra's flags that zpipe leaves to Hydra."""


def run(arguments: list[str]) -> int:
    """Composes, checks and compiles once; a refusal leaves nothing behind. Raises Refusal."""
    parsed = parse_arguments(arguments)
    if any(getattr(parsed, name, None) for name in HYDRA_ONLY):
        from zpipe.compose.job import print_for

        if not parsed.shell_completion:
            parsed.overrides = rewrite(parsed.overrides)
        if parsed.cfg or parsed.info:
            compose_once(parsed.overrides)  # Hydra would print its own error and end with 1.
        print_for(parsed)
        return Exit.FINISHED
    if parsed.multirun:
        from zpipe.cli.multirun import start

        return start(arguments)
    typed = continued(parsed.overrides)
    composed = compose_once(rewrite(typed))
    if composed.is_multirun:
        from zpipe.cli.multirun import start

        return start([*arguments, "--multirun"])
    from zpipe.compose.job import run_composed

    return run_composed(composed, typed).exit_code
