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

from zpipe.checkpoints.digests import digests_of, files_below, sync_folder, sync_tree
from zpipe.checkpoints.manifest import FileEntry, Manifest, write_manifest
from zpipe.checkpoints.rotation import STAGING_PREFIX, remove_old
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
        self._last_bytes = 0
        """Size of the last checkpoint, which predicts that of the next one."""

    @contextmanager
    def writing(self, step: int, epoch: float, keep: Collection[Path]) -> Iterator[Path]:
        """Yields the folder to write into; afterwards it is the checkpoint of this step.

        `keep` are checkpoints that rotation must not remove. Raises OSError if the disk has too little room.
        """
        staging = self._folder.path / f"{STAGING_PREFIX}{self._folder.attempt.number}-{step}"
        if self._rank.is_main:
            self._make_room(keep)
            staging.mkdir()
        _barrier()
        yield staging
        _barrier()
        entries = _gathered(self._own_entries(staging))
        if self._rank.is_main:
            self._publish(staging, step, epoch, entries)
            self._rotate(self._plan.experiment.checkpoint.save_total_limit, keep)
        self._last_bytes = sum(entry.bytes for entry in entries)
        _barrier()

    def _make_room(self, keep: Collection[Path]) -> None:
        """Removes all but the newest checkpoint if the next one would not fit beside them."""
        lacking = room_for(self._folder.path, self._last_bytes)
        if lacking and self._plan.experiment.checkpoint.save_total_limit is not None:
            self._rotate(1, keep)
            lacking = room_for(self._folder.path, self._last_bytes)
        if lacking:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {lacking}", str(self._folder.path))

    def _rotate(self, limit: int | None, keep: Collection[Path]) -> None:
        remove_old(self._folder.path, limit, keep, self._start.run_id)

    def _own_entries(self, staging: Path) -> list[FileEntry]:
        """Every rank reads a share of the files back."""
        files = sorted(files_below(staging))
        own = files[self._rank.index :: self._rank.world_size]
        digests = digests_of(own)
        return [
            FileEntry(
                path=file.relative_to(staging).as_posix(), bytes=file.stat().st_size, digest=digests[file]
            )
            for file in own
        ]

    def _publish(self, staging: Path, step: int, epoch: float, entries: list[FileEntry]) -> None:
        sync_tree(staging)
        write_manifest(staging, self._manifest(step, epoch, entries))
        staging.rename(self._folder.checkpoint(step))
        sync_folder(self._folder.path)

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
