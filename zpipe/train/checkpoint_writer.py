"""Writes checkpoints that are complete or absent.

The ranks write into a folder with another name. It gets its manifest and its final name when every file is on
the disk, so a kill at any moment leaves either the whole checkpoint or none.
"""

import errno
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zpipe.checkpoints.digests import files_below, sync_tree
from zpipe.checkpoints.manifest import FileEntry, Manifest, entries_for, write_manifest
from zpipe.checkpoints.rotation import STAGING_PREFIX, publish, remove_old
from zpipe.checkpoints.space import room_for
from zpipe.plans.changes import result_digest
from zpipe.plans.plan import Plan
from zpipe.runfolder.attempt_start import AttemptStart
from zpipe.runfolder.plan_file import folder_of
from zpipe.train.ranks import Rank


class CheckpointWriter:
    """One for each rank. Every method is a collective of all ranks."""

    def __init__(self, plan: Plan, rank: Rank, start: AttemptStart) -> None:
        self._plan, self._rank, self._start = plan, rank, start
        self._folder = folder_of(plan)
        space = plan.checkpoint_space
        self.last_bytes = (space.bytes or 0) if space is not None else 0
        """Size of the last checkpoint, or the predicted size of the first."""
        self.last_seconds: dict[str, float] = {}
        """How long the last checkpoint took to write, to be read back, and to reach the disk."""

    @contextmanager
    def writing(self, step: int, epoch: float, keep: Collection[Path]) -> Iterator[Path]:
        """Yields the folder to write into; afterwards it is the checkpoint of this step.

        `keep` are checkpoints that rotation must not remove. Raises OSError if the disk has too little room.
        """
        staging = self._folder.path / f"{STAGING_PREFIX}{self._folder.attempt.number}-{step}"
        if self._rank.is_main:
            self._make_room(step, keep)
            staging.mkdir()
        _barrier()
        began = time.perf_counter()
        yield staging
        _barrier()
        written = time.perf_counter()
        entries = _gathered(self._own_entries(staging))
        verified = time.perf_counter()
        if self._rank.is_main:
            self._publish(staging, step, epoch, entries)
            self._rotate(step, self._plan.experiment.checkpoint.save_total_limit, keep)
        _barrier()
        self.last_bytes = sum(entry.bytes for entry in entries)
        done = time.perf_counter()
        self.last_seconds = {"write": written - began, "verify": verified - written, "sync": done - verified}

    def _make_room(self, step: int, keep: Collection[Path]) -> None:
        """Removes all but the newest checkpoint if the next one would not fit beside them."""
        lacking = room_for(self._folder.path, self.last_bytes)
        if lacking and self._plan.experiment.checkpoint.save_total_limit is not None:
            self._rotate(step, 1, keep)
            lacking = room_for(self._folder.path, self.last_bytes)
        if lacking:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {lacking}", str(self._folder.path))

    def _rotate(self, step: int, limit: int | None, keep: Collection[Path]) -> None:
        remove_old(self._folder.path, limit, keep, self._start.run_id, step)

    def _own_entries(self, staging: Path) -> list[FileEntry]:
        """Every rank reads a share of the files back."""
        files = sorted(files_below(staging))
        return entries_for(staging, files[self._rank.index :: self._rank.world_size])

    def _publish(self, staging: Path, step: int, epoch: float, entries: list[FileEntry]) -> None:
        sync_tree(staging)
        write_manifest(staging, self._manifest(step, epoch, entries))
        publish(staging, self._folder.checkpoint(step))

    def _manifest(self, step: int, epoch: float, entries: list[FileEntry]) -> Manifest:
        plan = self._plan
        offload = plan.experiment.offload
        return Manifest(
            run_id=self._start.run_id,
            step=step,
            epoch=epoch,
            world_size=self._rank.world_size,
            stage=int(plan.ds_config.get("zero_optimization", {}).get("stage", 0)),
            offload={
                "optimizer": offload.offload_optimizer.device,
                "parameters": offload.offload_param.device,
            },
            dtype=plan.engine.dtype,
            plan_digest=result_digest(plan),
            versions=plan.versions,
            time=time.time(),
            resumable=not plan.experiment.checkpoint.save_only_model,
            files=sorted(entries, key=lambda entry: entry.path),
        )


def _barrier() -> None:
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def _gathered(entries: list[FileEntry]) -> list[FileEntry]:
    """The entries of all ranks."""
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return entries
    shares: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shares, [entry.model_dump() for entry in entries])
    return [FileEntry.model_validate(entry) for share in shares for entry in share]
