"""`zpipe sweep resume FOLDER` and `zpipe sweep report FOLDER`."""

from pathlib import Path

from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal

VERBS = "resume FOLDER [OVERRIDES], or report FOLDER"


def sweep(arguments: list[str]) -> int:
    """Raises Refusal if there is no such verb or no such sweep."""
    if len(arguments) < 2 or arguments[0] not in ("resume", "report"):
        reason = "what to do with which sweep is expected"
        raise Refusal([Problem("sweep", " ".join(arguments), reason, VERBS, "zpipe sweep resume FOLDER")])
    verb, folder, *more = arguments
    return _resume(Path(folder).absolute(), more) if verb == "resume" else _report(Path(folder).absolute())


def _resume(folder: Path, more: list[str]) -> int:
    from zpipe.cli.multirun import resume
    from zpipe.sweep.resume import prepare

    return resume(prepare(folder, more), folder)


def _report(folder: Path) -> int:
    from zpipe.sweep.definition import read_definition
    from zpipe.sweep.session import close_sweep

    if read_definition(folder) is None:
        raise Refusal([Problem("sweep", str(folder), "no sweep.json in this folder")])
    close_sweep(folder, uri=None)
    return Exit.FINISHED
