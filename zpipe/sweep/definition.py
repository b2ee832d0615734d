"""The definition of a sweep: `sweep.json`, written before the first point and read by every point."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from zpipe.redact import redact_override
from zpipe.runfolder.atomic import read_model, write_json
from zpipe.schema.base import Group
from zpipe.terminal.units import as_written

FILE_NAME = "sweep.json"


class Definition(Group):
    """A sweep as the user started it, without secrets."""

    arguments: list[str]
    """The command line as typed."""
    cwd: str
    """The folder in which it was typed; relative paths start here."""
    swept: list[str]
    """Keys with more than one value."""
    uri: str | None
    """MLflow store; null if the sweep is not tracked."""
    experiment: str
    """Name of the MLflow experiment."""
    mlflow_run_id: str | None = None
    """The parent run; null until MLflow could be reached."""
    session: int = 0
    """How often the sweep has been resumed."""
    jobs: list[Annotated[str, Field(pattern=r"^\d+$")]] = []
    """Slurm job arrays that were submitted for its points."""
    whole: bool = False
    """Whether the last session ran to its end, so that the sweeper has no further points."""

    def label(self, overrides: list[str]) -> str:
        """The settings that distinguish this point, for display: `stage=2, reduce_bucket_size=5e7`."""
        pairs = [text.partition("=") for text in overrides]
        return ", ".join(
            f"{key.rpartition('.')[2]}={as_written(value)}" for key, _, value in pairs if key in self.swept
        )


def holds_sweep(folder: Path) -> bool:
    """Whether there is a sweep.json, also one that cannot be read, such as a link to nothing."""
    return os.path.lexists(folder / FILE_NAME)


def read_definition(folder: Path) -> Definition | None:
    """The sweep in this folder, or None. Raises Refusal for a damaged file or one of another version."""
    if not holds_sweep(folder):
        return None
    return read_model(Definition, folder / FILE_NAME, "sweep", "a sweep.json that zpipe wrote")


def write_definition(folder: Path, definition: Definition) -> None:
    """Writes sweep.json atomically."""
    safe = {**definition.model_dump(), "arguments": [redact_override(each) for each in definition.arguments]}
    write_json(folder / FILE_NAME, safe)
