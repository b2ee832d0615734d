"""The manifest of a checkpoint: which run wrote it, at which step, and what its files contain."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from zpipe.checkpoints.digests import OnBytes, digests_of, sync_folder
from zpipe.checkpoints.folders import files_below
from zpipe.problems import Refusal
from zpipe.runfolder.atomic import read_model, write_json
from zpipe.schema.base import Group

MANIFEST_NAME = "manifest.json"


def _inside(path: str) -> str:
    """A checkpoint of somebody else must not make zpipe read files elsewhere."""
    windows = PureWindowsPath(path)
    is_plain = PurePosixPath(path).as_posix() == path and path != "." and "\0" not in path
    if not is_plain or windows.anchor or ".." in windows.parts:
        raise ValueError("expected a relative path that stays inside the checkpoint")
    return path


NotNegative = Annotated[int, Field(ge=0)]


class FileEntry(Group):
    """One file of a checkpoint."""

    path: Annotated[str, AfterValidator(_inside)]
    """Relative to the checkpoint, with slashes."""
    bytes: NotNegative
    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    """XXH3-128."""


def _listed_once(files: Sequence[FileEntry]) -> Sequence[FileEntry]:
    if len({entry.path for entry in files}) < len(files):
        raise ValueError("a file is listed twice")
    return files


class Manifest(Group):
    """What is written last into a checkpoint: without it, the checkpoint is incomplete."""

    format: Literal[1] = 1
    run_id: str
    """Identity of the run that wrote the checkpoint."""
    step: NotNegative
    epoch: Annotated[float, Field(ge=0)]
    """Position in the data."""
    world_size: Annotated[int, Field(ge=1)]
    node: NotNegative = 0
    """The node whose states it has, if each node has its own."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Over how many nodes the states are divided."""
    stage: Annotated[int, Field(ge=0, le=3)]
    """ZeRO stage."""
    offload: dict[str, str]
    """Device of the optimizer states and of the parameters."""
    dtype: str
    optimizer: str | None = None
    """Name of the class whose states it has; null if it was written before this was noted."""
    plan_digest: str
    """Of everything in the plan that changes the result."""
    versions: dict[str, str]
    """Of the packages that wrote the checkpoint."""
    time: float
    """Seconds since the epoch."""
    resumable: bool = True
    """Whether it has the states of optimizer, scheduler and random generators, not the model alone."""
    files: Annotated[list[FileEntry], Field(min_length=1), AfterValidator(_listed_once)]


def entries_of(folder: Path, on_bytes: OnBytes | None = None) -> list[FileEntry]:
    """Every file below a folder, sorted by path, without its manifest.

    Raises OSError for a file that cannot be read, and for anything that is not a regular file.
    """
    return entries_for(
        folder, (file for file in files_below(folder) if file != folder / MANIFEST_NAME), on_bytes
    )


def entries_for(folder: Path, files: Iterable[Path], on_bytes: OnBytes | None = None) -> list[FileEntry]:
    """The same for some of the files: a rank reads its share."""
    digests = digests_of(files, on_bytes)
    return [
        FileEntry(path=file.relative_to(folder).as_posix(), bytes=file.stat().st_size, digest=digest)
        for file, digest in sorted(digests.items())
    ]


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Writes the manifest atomically, and waits until it is on the disk. Raises OSError."""
    file = write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))
    sync_folder(folder)
    return file


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint. Raises Refusal if it is missing, damaged or of another version."""
    return read_model(
        Manifest,
        folder / MANIFEST_NAME,
        "manifest",
        f"a {MANIFEST_NAME} that zpipe wrote with the checkpoint",
    )


def manifest_or_none(folder: Path) -> Manifest | None:
    """The same; None if it cannot be read."""
    try:
        return read_manifest(folder)
    except Refusal:
        return None
