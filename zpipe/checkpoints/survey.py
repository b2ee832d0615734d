"""Every checkpoint of a run with its state, and what lies half written or half removed beside them."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zpipe.checkpoints.digests import OnBytes
from zpipe.checkpoints.folders import STAGING_PREFIX, bytes_below, leftovers_in, named_in
from zpipe.checkpoints.state import NO_STEP, CheckpointState, State, inspect

UNCHANGED: frozenset[State] = frozenset({"good", "model only"})
"""Every file is what its manifest says, as far as it was compared."""

_STEP = re.compile(r"-(\d{1,18})$", re.ASCII)


@dataclass(frozen=True)
class Usage:
    """What a checkpoint takes on the disk, and when it was written."""

    bytes: int | None
    """None if the folder cannot be read."""
    time: float | None
    """Unix time in seconds: of the manifest, otherwise of the last change to the folder."""


def survey(run_dir: Path, run_id: str | None) -> list[CheckpointState]:
    """Newest first, compared by names and sizes. Links are not followed. Raises OSError."""
    complete = [inspect(folder, run_id, quick=True) for folder in named_in(run_dir)]
    half_done = [_half_done(folder) for folder in leftovers_in(run_dir)]
    return sorted([*complete, *half_done], key=lambda found: found.step, reverse=True)


def bytes_to_verify(found: Iterable[CheckpointState]) -> int:
    """How much `verified` reads."""
    manifests = (each.manifest for each in found if each.manifest and each.state in UNCHANGED)
    return sum(entry.bytes for manifest in manifests for entry in manifest.files)


def verified(
    found: Iterable[CheckpointState], run_id: str | None, on_bytes: OnBytes | None = None
) -> list[CheckpointState]:
    """The same checkpoints, compared by content too. What a living run has removed since is left out."""
    checked = [
        inspect(each.path, run_id, on_bytes) if each.state in UNCHANGED else each
        for each in found
        if os.path.lexists(each.path)
    ]
    return [each for each in checked if os.path.lexists(each.path)]


def usage_of(found: CheckpointState) -> Usage:
    """Reads names and sizes only; of a link nothing."""
    if found.path.is_symlink():
        return Usage(None, None)
    try:
        count = bytes_below(found.path)
        changed = found.path.stat().st_mtime
    except OSError:
        return Usage(None, found.manifest.time if found.manifest else None)
    return Usage(count, found.manifest.time if found.manifest else changed)


def _half_done(folder: Path) -> CheckpointState:
    step = _STEP.search(folder.name)
    reason = "half written" if folder.name.startswith(STAGING_PREFIX) else "half removed"
    return CheckpointState(int(step[1]) if step else NO_STEP, folder, "incomplete", (reason,))
