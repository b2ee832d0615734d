"""Which run is meant: a run folder, or the beginning of a run's id in MLflow."""

from pathlib import Path

from zpipe.problems import Problem, Refusal
from zpipe.record.store import tracking_uri
from zpipe.runfolder.folder import RunFolder


def folder_of(argument: str, uri: str | None) -> RunFolder:
    """The run folder that is meant. Raises Refusal if it is not on this machine."""
    named = RunFolder(Path(argument).absolute())
    if named.holds_run:
        return named
    from zpipe.record.browse import find

    folder = find(tracking_uri(uri), argument).folder
    if folder is None or not RunFolder(folder).holds_run:
        raise Refusal([Problem("RUN", argument, f"its run folder is not on this machine: {folder}")])
    return RunFolder(folder)
