"""Finds the run folder for a RUN argument: the folder itself, or the beginning of an MLflow run id."""

from pathlib import Path

from zpipe.problems import Problem, Refusal
from zpipe.runfolder.folder import RunFolder


def folder_of(argument: str, uri: str | None) -> RunFolder:
    """Raises Refusal if the run does not exist or its folder is not on this machine."""
    named = RunFolder(Path(argument).absolute())
    if named.holds_run:
        return named
    from zpipe.record.browse import find
    from zpipe.record.store import tracking_uri

    folder = find(tracking_uri(uri), argument).folder
    if folder is None or not RunFolder(folder).holds_run:
        raise Refusal([Problem("RUN", argument, f"its run folder is not on this machine: {folder}")])
    return RunFolder(folder)
