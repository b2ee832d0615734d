"""Links in the run folder to the files of its last attempt, where people and their scripts look first."""

import os
from contextlib import suppress
from pathlib import Path

from zpipe.runfolder.folder import Attempt, attempt_number


def link_latest(attempt: Attempt) -> None:
    """Links what the attempt has written so far; files of the user stay, and are not followed.

    Does nothing on a file system without links.
    """
    for file in (attempt.events, attempt.samples, attempt.result, attempt.postmortem, attempt.logs):
        with suppress(OSError):
            _link(attempt.path.parent / file.name, file)


def _link(link: Path, file: Path) -> None:
    is_ours = link.is_symlink() and attempt_number(link.readlink().parent) is not None
    if os.path.lexists(link) and not is_ours:
        return
    if not file.exists():
        link.unlink(missing_ok=True)
        return
    new = link.with_name(f".{link.name}.link")
    new.unlink(missing_ok=True)
    new.symlink_to(f"{file.parent.name}/{file.name}")
    new.replace(link)
