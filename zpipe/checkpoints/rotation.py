"""Removes checkpoints that are no longer needed, and what a killed run left half written or half removed."""

import shutil
from collections.abc import Collection
from pathlib import Path

from zpipe.checkpoints.digests import sync_folder
from zpipe.checkpoints.folders import REMOVING_PREFIX, checkpoints_in, leftovers_in, step_of
from zpipe.checkpoints.manifest import read_manifest
from zpipe.problems import Refusal


def remove_old(
    run_dir: Path,
    limit: int | None,
    keep: Collection[Path] = (),
    run_id: str | None = None,
    step: int | None = None,
) -> list[Path]:
    """Removes all checkpoints but the newest ones and those to keep; returns what was removed.

    The newest one always stays. A folder without a readable manifest is neither counted nor removed, and with
    a `run_id` no folder of another run is. `step` is where the run is: later checkpoints were passed over, so
    they are neither counted nor removed. Raises OSError.
    """
    if limit is None:
        return []
    kept = {path.resolve() for path in keep}
    known = [folder for folder in checkpoints_in(run_dir, step) if _is_known(folder, run_id)]
    surplus = [folder for folder in known[max(1, limit) :] if folder.resolve() not in kept]
    for folder in surplus:
        _remove(folder)
    return surplus


def remove_later(home: Path, run_id: str, step: int) -> None:
    """Removes the run's own checkpoints of later steps, which it does not go on from. Raises OSError."""
    for folder in checkpoints_in(home):
        if (step_of(folder) or 0) > step and _is_known(folder, run_id):
            _remove(folder)


def publish(staging: Path, checkpoint: Path) -> None:
    """Gives a complete checkpoint its name; a damaged one of the same step makes room. Raises OSError."""
    old = _set_aside(checkpoint) if checkpoint.exists() or checkpoint.is_symlink() else None
    staging.rename(checkpoint)
    sync_folder(checkpoint.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def tidy(run_dir: Path) -> list[Path]:
    """Deletes what a killed run left; returns what is gone. Links are left. Raises OSError."""
    leftovers = leftovers_in(run_dir)
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder for folder in leftovers if not folder.exists()]


def _is_known(folder: Path, run_id: str | None) -> bool:
    try:
        manifest = read_manifest(folder)
    except Refusal:
        return False
    return run_id is None or manifest.run_id == run_id


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
