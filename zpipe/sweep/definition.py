"""What a sweep is: `sweep.json` in its folder, written before the first point and read by every point."""

from pathlib import Path

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
    """Where it was typed: relative paths start there."""
    swept: list[str]
    """Keys with more than one value."""
    uri: str | None
    """MLflow store; null if the sweep isn't tracked."""
    experiment: str
    """Name of the MLflow experiment."""
    mlflow_run_id: str | None = None
    """The parent run; null as long as MLflow could not be reached."""
    session: int = 0
    """How often the sweep has been resumed."""
    whole: bool = False
    """Whether the last session came to its end: no further point was to be asked for."""

    def label(self, overrides: list[str]) -> str:
        """What tells this point from the others, for people: `stage=2, reduce_bucket_size=5e7`."""
        pairs = [text.partition("=") for text in overrides]
        return ", ".join(
            f"{key.rpartition('.')[2]}={as_written(value)}" for key, _, value in pairs if key in self.swept
        )


def read_definition(folder: Path) -> Definition | None:
    """The sweep of this folder, or None. Raises Refusal for a file of another version, or a damaged one."""
    file = folder / FILE_NAME
    return read_model(Definition, file, "sweep", "the folder of a sweep") if file.is_file() else None


def write_definition(folder: Path, definition: Definition) -> None:
    """Writes sweep.json, whole or not at all."""
    safe = {**definition.model_dump(), "arguments": [redact_override(each) for each in definition.arguments]}
    write_json(folder / FILE_NAME, safe)
