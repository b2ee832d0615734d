"""Uploads texts and files of a run as artifacts, without secrets, and makes sure that they arrived."""

import io
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.redact import redact
from zpipe.runfolder.foreign_files import open_regular

if TYPE_CHECKING:
    from mlflow import MlflowClient

_THROUGH_A_SERVER = ("mlflow-artifacts:", "http:", "https:")

_NUMBERS_ONLY = '"event": "metrics"'
"""Marks lines that need no redaction: nearly all lines of an event file."""


def log_redacted(client: "MlflowClient", run_id: str, path: Path) -> None:
    """Uploads a text file, or a redacted copy if the file contains secrets."""
    if all(line == clean for line, clean in _lines(path)):
        client.log_artifact(run_id, str(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with copy.open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(clean for _, clean in _lines(path))
        client.log_artifact(run_id, str(copy))


def require_stored(client: "MlflowClient", run_id: str, names: Iterable[str]) -> None:
    """Raises OSError if an artifact is missing: a proxy may answer an upload with a page and status 200."""
    if not (client.get_run(run_id).info.artifact_uri or "").startswith(_THROUGH_A_SERVER):
        return
    stored = {each.path for each in client.list_artifacts(run_id)}
    missing = sorted(set(names) - stored)
    if missing:
        listed = ", ".join(missing)
        raise OSError(f"the server accepted these artifacts and did not store them: {listed}")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line as it is, and redacted."""
    with io.TextIOWrapper(open_regular(path), encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            yield line, line if _NUMBERS_ONLY in line else redact(line)
