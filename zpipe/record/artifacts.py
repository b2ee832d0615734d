"""Uploads files of a run folder as artifacts, without secrets that a message in them may contain."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.redact import redact
from zpipe.runfolder.foreign_files import open_regular

if TYPE_CHECKING:
    from mlflow import MlflowClient

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


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line as it is, and redacted."""
    with io.TextIOWrapper(open_regular(path), encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            yield line, line if _NUMBERS_ONLY in line else redact(line)
