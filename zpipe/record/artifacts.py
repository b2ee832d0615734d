"""Uploads texts and files of a run as artifacts, without secrets, and makes sure that they arrived."""

import io
import tempfile
from collections.abc import Iterable, Iterator
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.redact import redact
from zpipe.redact.lines import redact_lines
from zpipe.runfolder.foreign_files import open_regular

if TYPE_CHECKING:
    from mlflow import MlflowClient

_THROUGH_A_SERVER = ("mlflow-artifacts:", "http:", "https:")

_NUMBERS_ONLY = '"event": "metrics"'
"""Marks lines that need no redaction: nearly all lines of an event file."""


def log_redacted(client: "MlflowClient", run_id: str, path: Path, folder_name: str = "") -> None:
    """Uploads a text file into a folder of the artifacts, or a redacted copy if it contains secrets."""
    if all(map(eq, _lines(path), _clean_lines(path))):
        client.log_artifact(run_id, str(path), folder_name or None)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with copy.open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(_clean_lines(path))
        client.log_artifact(run_id, str(copy), folder_name or None)


def require_stored(client: "MlflowClient", run_id: str, names: Iterable[str]) -> None:
    """Raises OSError if an artifact is missing: a proxy may answer an upload with a page and status 200."""
    if not (client.get_run(run_id).info.artifact_uri or "").startswith(_THROUGH_A_SERVER):
        return
    wanted = set(names)
    folders = {name.rpartition("/")[0] for name in wanted}
    stored = {each.path for folder in folders for each in client.list_artifacts(run_id, folder or None)}
    missing = sorted(wanted - stored)
    if missing:
        listed = ", ".join(missing)
        raise OSError(f"the server accepted these artifacts and did not store them: {listed}")


def _clean_lines(path: Path) -> Iterator[str]:
    """Without secrets. A line of JSON stands for itself: an incomplete key in it hides no other line."""
    if path.suffix != ".jsonl":
        return redact_lines(_lines(path))
    return (line if _NUMBERS_ONLY in line else redact(line) for line in _lines(path))


def _lines(path: Path) -> Iterator[str]:
    with io.TextIOWrapper(open_regular(path), encoding="utf-8", errors="surrogateescape") as file:
        yield from file
