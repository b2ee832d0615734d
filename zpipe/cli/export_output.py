"""Where `zpipe export` may write: a new folder outside of every run, whose names are its own."""

import os
import tempfile
from itertools import chain, count
from pathlib import Path

from zpipe.checkpoints.home import home_in
from zpipe.problems import Problem, Refusal
from zpipe.runfolder.folder import RunFolder

_OPTION = "--output"


def check_output(output: Path, run: RunFolder) -> None:
    """Raises Refusal for what exists, cannot be written, or is part of a run."""
    parent, fix = output.absolute().parent, f"{_OPTION} /path/to/new"
    if output.exists() or output.is_symlink():
        reason, allowed = "this exists", "a new folder"
    elif not parent.is_dir():
        reason, allowed = f"{parent} does not exist", "a new folder in one that exists"
    elif not os.access(parent, os.W_OK | os.X_OK):
        reason, allowed = f"{parent} is not writable", "a new folder in a writable one"
    elif (owner := _owner(parent.resolve(), run)) is not None:
        reason, allowed = f"{owner} is the folder of a run, and zpipe's alone", "a new folder outside of it"
        fix = f"{_OPTION} {_beside(owner)}"
    else:
        return
    raise Refusal([Problem(_OPTION, str(output), reason, allowed, fix)])


def _owner(parent: Path, run: RunFolder) -> Path | None:
    """The run that would take a folder here for one of its own."""
    for folder in (run.path, home_in(run)):
        if parent.is_relative_to(folder.resolve()):
            return folder.resolve()
    return parent if RunFolder(parent).holds_run else None


def _beside(run: Path) -> Path:
    """A folder that is accepted."""
    while RunFolder(run.parent).holds_run:
        run = run.parent
    where = run.parent if os.access(run.parent, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    names = (f"{run.name}-export{number}" for number in chain([""], (f"-{each}" for each in count(2))))
    return next(path for name in names if not os.path.lexists(path := where / name))
