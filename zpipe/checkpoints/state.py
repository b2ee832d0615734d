"""Whether a checkpoint is what its manifest says. The folder may come from anybody: it is read as data."""

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from zpipe.checkpoints.digests import OnBytes, digests_of
from zpipe.checkpoints.folders import files_below, step_of
from zpipe.checkpoints.manifest import MANIFEST_NAME, FileEntry, Manifest, read_manifest
from zpipe.problems import Refusal
from zpipe.runfolder.foreign_files import is_below

State = Literal["good", "model only", "damaged", "incomplete", "other run"]

NO_STEP = -1
UNKNOWN_RUN = ""
"""The identity of a run whose folder does not tell it: no checkpoint is known to be its own."""
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".pkl"})
"""Loading such a file may execute code."""


@dataclass(frozen=True)
class CheckpointState:
    """What an inspection found."""

    step: int
    """The step in the folder's name; NO_STEP if it has none."""
    path: Path
    state: State
    damage: tuple[str, ...] = ()
    """Why the checkpoint is not good, one sentence for each finding."""
    manifest: Manifest | None = None
    """None if there is none that can be read."""


def inspect(
    folder: Path, run_id: str | None, on_bytes: OnBytes | None = None, *, quick: bool = False
) -> CheckpointState:
    """Compares a checkpoint with its manifest; with None, any run may have written it.

    Names and sizes of all files come first: no file is read before they are right. A quick inspection ends
    there, so a good checkpoint may have files with other content.
    """
    step = step_of(folder)
    found = partial(CheckpointState, NO_STEP if step is None else step, folder)
    if folder.is_symlink() or not folder.is_dir():
        return found("damaged", ("a link" if folder.is_symlink() else "not a folder",))
    if _lacks_manifest(folder):
        return found("incomplete", (f"missing: {MANIFEST_NAME}",))
    try:
        manifest = read_manifest(folder)
    except Refusal as refusal:
        return found("damaged", (f"{MANIFEST_NAME}: {refusal.problems[0].reason}",))
    if run_id is not None and manifest.run_id != run_id:
        wanted = (
            "and no attempt.json tells that it is this one" if run_id == UNKNOWN_RUN else f"not by {run_id}"
        )
        return found("other run", (f"written by the run {manifest.run_id}, {wanted}",), manifest)
    damage = _readable(_outer_damage, folder, manifest)
    if not damage and not quick:
        damage = _readable(partial(_inner_damage, on_bytes=on_bytes), folder, manifest)
    if not damage and not manifest.resumable:
        return found("model only", ("it has no state of the optimizer",), manifest)
    return found("damaged" if damage else "good", damage, manifest)


def _lacks_manifest(folder: Path) -> bool:
    """A manifest that is there and cannot be read is damage."""
    try:
        (folder / MANIFEST_NAME).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _readable(
    damage: Callable[[Path, Manifest], Iterator[str]], folder: Path, manifest: Manifest
) -> tuple[str, ...]:
    """The damage; it includes what the file system refuses to read."""
    findings: list[str] = []
    try:
        findings.extend(damage(folder, manifest))
    except OSError as error:
        findings.append(f"cannot be read: {error.filename}: {error.strerror}")
    return tuple(findings)


def _outer_damage(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What names and sizes tell."""
    if step_of(folder) != manifest.step:
        yield f"the folder is named {folder.name}, but its manifest is of step {manifest.step}"
    for entry in manifest.files:
        finding = _outer_damage_of_file(folder, entry)
        if finding:
            yield finding
    listed = {folder / entry.path for entry in manifest.files}
    for file in files_below(folder):
        if file.suffix.lower() in PICKLE_SUFFIXES and file not in listed:
            yield f"unexpected pickle file: {file.relative_to(folder).as_posix()}"


def _outer_damage_of_file(folder: Path, entry: FileEntry) -> str | None:
    path = folder / entry.path
    try:
        if not is_below(path, folder):
            return f"behind a link: {entry.path}"
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return f"missing: {entry.path}"
    if not stat.S_ISREG(found.st_mode):
        return f"no regular file: {entry.path}"
    if found.st_size != entry.bytes:
        return f"{entry.path}: {found.st_size:,} bytes instead of {entry.bytes:,}"
    return None


def _inner_damage(folder: Path, manifest: Manifest, on_bytes: OnBytes | None) -> Iterator[str]:
    """What only the content tells."""
    digests = digests_of((folder / entry.path for entry in manifest.files), on_bytes)
    for entry in manifest.files:
        if digests[folder / entry.path] != entry.digest:
            yield f"changed: {entry.path}"
