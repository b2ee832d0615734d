"""Removes checkpoints that are no longer needed, and what a killed run left half written or half removed."""

import itertools
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from zpipe.checkpoints.digests import sync_folder
from zpipe.checkpoints.folders import REMOVING_PREFIX, checkpoints_in, leftovers_in, step_of
from zpipe.checkpoints.manifest import MANIFEST_NAME, Manifest, manifest_or_none


def remove_old(
    run_dir: Path,
    limit: int | None,
    keep: Collection[Path] = (),
    run_id: str | None = None,
    step: int | None = None,
) -> list[Path]:
    """Removes all checkpoints but the newest ones and those to keep; returns what was removed.

    The newest one always stays, and so does the newest one with which the run can go on. A folder without a
    readable manifest is neither counted nor removed, and with a `run_id` no folder of another run is. `step`
    is where the run is: later checkpoints were passed over, so they are neither counted nor removed. Raises
    OSError.
    """
    if limit is None:
        return []
    known = {folder: _known(folder, run_id) for folder in checkpoints_in(run_dir, step)}
    own = {folder: manifest for folder, manifest in known.items() if manifest is not None}
    resumable = [folder for folder, manifest in own.items() if manifest.resumable]
    kept = {path.resolve() for path in (*keep, *resumable[:1])}
    surplus = [folder for folder in list(own)[max(1, limit) :] if folder.resolve() not in kept]
    for folder in surplus:
        _remove(folder)
    return surplus


def remove_later(home: Path, run_id: str, step: int) -> None:
    """Removes the run's own checkpoints of later steps, which it does not go on from. Raises OSError."""
    for folder in checkpoints_in(home):
        if (step_of(folder) or 0) > step and _known(folder, run_id) is not None:
            _remove(folder)


def publish(staging: Path, checkpoint: Path) -> Path | None:
    """Gives a complete checkpoint its name. A damaged one of the same step is removed.

    Whatever else has the name was not written as a checkpoint, or is not whole enough to tell: it keeps its
    content under a name that is returned. Raises OSError.
    """
    kept = _keep(checkpoint) if os.path.lexists(checkpoint) and not _has_manifest(checkpoint) else None
    old = _set_aside(checkpoint) if os.path.lexists(checkpoint) else None
    staging.rename(checkpoint)
    sync_folder(checkpoint.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return kept


def _has_manifest(folder: Path) -> bool:
    return not folder.is_symlink() and (folder / MANIFEST_NAME).is_file()


def _keep(path: Path) -> Path:
    """Renames something to the first free name, and returns it."""
    names = (path.with_name(f"{path.name}.kept-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not os.path.lexists(name))
    path.rename(kept)
    return kept


def tidy(run_dir: Path) -> list[Path]:
    """Deletes what a killed run left; returns what is gone. Links are left. Raises OSError."""
    leftovers = leftovers_in(run_dir)
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder for folder in leftovers if not folder.exists()]


def _known(folder: Path, run_id: str | None) -> Manifest | None:
    """The manifest of a checkpoint of this run."""
    manifest = manifest_or_none(folder)
    is_own = manifest is not None and run_id in (None, manifest.run_id)
    return manifest if is_own else None


def _remove(folder: Path) -> None:
    """Removes a checkpoint. A kill or a power cut never leaves half of it under its name. Raises OSError.

    What cannot be deleted, like an open file on NFS, stays under the other name for `tidy`.
    """
    doomed = _set_aside(folder)
    sync_folder(folder.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    """Renames a folder that is to be deleted, and returns its new name."""
    doomed = folder.with_name(f"{REMOVING_PREFIX}{folder.name}")
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed)
    else:
        doomed.unlink(missing_ok=True)
    folder.rename(doomed)
    return doomed
