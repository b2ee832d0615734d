"""`zpipe [OVERRIDES]`: a run, or with -m a sweep."""

from pathlib import Path

from zpipe.compose.command_line import parse_arguments
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.exits import Exit
from zpipe.runfolder.folder import RunFolder

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
    composed = compose_once(rewrite(_continued(parsed.overrides)))
    if composed.is_multirun:
        from zpipe.cli.multirun import start

        return start([*arguments, "--multirun"])
    from zpipe.compose.job import run_composed

    return run_composed(composed).exit_code


def _continued(overrides: list[str]) -> list[str]:
    """The overrides, or with resume=RUN those of that run and its folder."""
    named = [text for text in overrides if text.startswith("resume=")]
    folder = _run_folder(named[-1].partition("=")[2]) if named else None
    if folder is None:
        return overrides
    from zpipe.compose.repeat import continuing

    return continuing(folder, [text for text in overrides if text not in named])


def _run_folder(text: str) -> RunFolder | None:
    """The run folder that the text names; None for auto, never and the folder of a checkpoint."""
    folder = RunFolder(Path(text).expanduser().absolute())
    return folder if folder.holds_run else None
