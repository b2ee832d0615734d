"""Finds the run folder for a RUN argument: the folder itself, or the beginning of an MLflow run id."""

from pathlib import Path

from zpipe.plan.plan import FILE_NAME as PLAN_FILE
from zpipe.problems import Problem, Refusal


def folder_of(argument: str, uri: str | None) -> Path:
    """Raises Refusal if the run does not exist or its folder is not on this machine."""
    if is_run_folder(Path(argument)):
        return Path(argument).absolute()
    from zpipe.record.browse import find
    from zpipe.record.store import tracking_uri

    folder = find(tracking_uri(uri), argument).folder
    if folder is None or not is_run_folder(folder):
        raise Refusal([Problem("RUN", argument, f"its run folder is not on this machine: {folder}")])
    return folder


def is_run_folder(path: Path) -> bool:
    return (path / PLAN_FILE).is_file()
