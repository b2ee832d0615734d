"""Writes checkpoints that are complete or absent.

The ranks write into a folder with another name. It gets its manifest and its final name when every file is on
the disk, so a kill at any moment leaves either the whole checkpoint or none. Meanwhile the training goes on,
if host memory has room for a copy of the states.
"""

import errno
import os
import time
from collections.abc import Callable, Collection, Container, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from zpipe.checkpoints.digests import sync_tree
from zpipe.checkpoints.folders import STAGING_PREFIX, bytes_below
from zpipe.checkpoints.home import checkpoint_home, is_divided
from zpipe.checkpoints.manifest import FileEntry, Manifest, entries_for, write_manifest
from zpipe.checkpoints.rotation import publish, remove_later, remove_old
from zpipe.checkpoints.shape import shape_of
from zpipe.checkpoints.shares import all_shares, close_shares, open_shares, unlisted, wait_until_named
from zpipe.checkpoints.space import room_for
from zpipe.plans.changes import result_digest
from zpipe.plans.plan import Plan
from zpipe.runfolder.attempt_start import AttemptStart
from zpipe.runfolder.events import CheckpointSaved
from zpipe.runfolder.folder import checkpoint_name
from zpipe.runfolder.plan_file import folder_of
from zpipe.train.host_buffers import HostBuffers
from zpipe.train.ranks import Rank
from zpipe.train.save import Save

OnSaved = Callable[[CheckpointSaved], None]


class CheckpointWriter:
    """One for each rank. Every rank must call the same methods in the same order."""

    def __init__(
        self,
        plan: Plan,
        rank: Rank,
        start: AttemptStart,
        on_saved: OnSaved = lambda _: None,
        on_notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._plan, self._rank, self._start = plan, rank, start
        self._on_saved, self._on_notice = on_saved, on_notice
        self._attempt, self._home = folder_of(plan).attempt.number, checkpoint_home(plan)
        self._is_divided = is_divided(plan)
        self._leads = rank.leads_node if self._is_divided else rank.is_main
        """Whether this rank names the checkpoints in its home."""
        self._sharing = rank.on_node if self._is_divided else range(rank.world_size)
        """The ranks that write into it."""
        self._settings = plan.experiment.checkpoint
        self._buffers, self._gathered = HostBuffers(rank.local_size), HostBuffers(ranks=1)
        self._save: Save | None = None
        self._has_saved = False
        space = plan.checkpoint_space
        self._bytes = (space.bytes or 0) if space is not None else 0
        """Size of the last checkpoint, or the predicted size of the first."""

    @contextmanager
    def writing(
        self, step: int, epoch: float, keep: Collection[Path], unsettled: Container[int] | None = None
    ) -> Iterator[Save]:
        """What is written into the folder of the Save becomes the checkpoint of this step, now or later.

        `keep` are checkpoints that rotation must not remove; `unsettled` are addresses of storages that may
        change before the next optimizer step, or None for all. Raises OSError if the disk lacks room.
        """
        self.finish()
        self._rotate_divided(step, keep)
        staging = self._home / f"{STAGING_PREFIX}{self._attempt}-{step}"
        in_background = self._settings.async_save is not False
        if self._leads:
            self._home.mkdir(parents=True, exist_ok=True)
            self._make_room(step, keep)
            staging.mkdir()
            open_shares(staging)
        _barrier()
        save = Save(
            staging,
            self._rank.index,
            self._buffers,
            self._gathered,
            in_background=in_background,
            unsettled=unsettled,
        )
        yield save
        save.go_on(partial(self._complete, staging, step, epoch, keep))
        self._save = save
        self._note(save)
        if not in_background:
            self.finish()

    def finish(self) -> None:
        """Waits until the last checkpoint has its name. Raises what ended its writing."""
        save, self._save = self._save, None
        if save is not None:
            save.wait()

    def folder_of(self, step: int) -> Path:
        """The folder of the checkpoint of this step, which need not exist."""
        return self._home / checkpoint_name(step)

    def before_step(self) -> None:
        """Waits until the optimizer may change the states. Call it before each of its steps."""
        if self._save is not None:
            self._save.wait_for_copies()

    def rotate(self, step: int, keep: Collection[Path]) -> None:
        """Removes what an attempt that was killed before its rotation has left. Raises OSError."""
        if self._is_divided:
            self._rotate_divided(step, keep)
        elif self._leads:
            self._rotate(step, self._settings.save_total_limit, keep)

    def finish_anyhow(self) -> None:
        """The same for a run that fails for another reason."""
        with suppress(Exception):
            self.finish()

    def check(self) -> None:
        """Raises what has ended the writing in the background. Call it often: it costs nothing."""
        if self._save is not None:
            self._save.check()

    def _rotate_divided(self, step: int, keep: Collection[Path]) -> None:
        """A node may remove a checkpoint when every node has the next one: until then, it is the last.

        Parts of later steps, which other nodes lack, must not be taken for those that are written now.
        """
        if not self._is_divided:
            return
        _barrier()
        if self._leads and not self._has_saved:
            remove_later(self._home, self._start.run_id, self._start.step)
        if self._leads:
            self._rotate(step, self._settings.save_total_limit, keep)
        self._has_saved = True

    def _make_room(self, step: int, keep: Collection[Path]) -> None:
        """Removes all but the newest checkpoint if the next one would not fit beside them."""
        lacking = room_for(self._home, self._bytes)
        if lacking and self._settings.save_total_limit is not None:
            self._rotate(step, 1, keep)
            lacking = room_for(self._home, self._bytes)
        if lacking:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {lacking}", str(self._home))

    def _rotate(self, step: int, limit: int | None, keep: Collection[Path]) -> None:
        remove_old(self._home, limit, keep, self._start.run_id, step)

    def _note(self, save: Save) -> None:
        if save.lacking is not None:
            needed, free = (f"{count / 2**30:.1f} GiB" for count in save.lacking)
            memory = f"a copy needs {needed} of host memory, and {free} are free"
            self._on_notice(f"the training waits for the checkpoint: {memory}")

    def _complete(self, staging: Path, step: int, epoch: float, keep: Collection[Path], save: Save) -> None:
        """In another thread: no collectives."""
        if not self._leads:
            wait_until_named(staging, len(self._sharing))
            return
        written = time.perf_counter()
        entries = all_shares(staging, self._sharing)
        entries += entries_for(staging, unlisted(staging, entries))
        verified = time.perf_counter()
        close_shares(staging)
        sync_tree(staging)
        write_manifest(staging, self._manifest(step, epoch, entries))
        kept = publish(staging, self.folder_of(step))
        if kept is not None:
            text = f"{checkpoint_name(step)} was there without a manifest, and is kept as {kept.name}"
            self._on_notice(text)
        published = time.perf_counter()
        if not self._is_divided:
            self._rotate(step, self._settings.save_total_limit, keep)
        self._bytes = sum(entry.bytes for entry in entries)
        seconds = {
            "write": save.seconds_written,
            "verify": verified - written,
            "sync": published - verified,
            "rotate": time.perf_counter() - published,
        }
        if self._rank.is_main:
            self._report(step, seconds, save)

    def _report(self, step: int, seconds: dict[str, float], save: Save) -> None:
        folder = self.folder_of(step)
        count, held_up = bytes_below(folder), save.held_up()
        is_in_run = self._home == Path(self._plan.run_dir)
        path = folder.name if is_in_run else str(folder)
        self._on_saved(CheckpointSaved(step=step, path=path, bytes=count, seconds=seconds, held_up=held_up))

    def _manifest(self, step: int, epoch: float, entries: list[FileEntry]) -> Manifest:
        plan = self._plan
        offload = plan.experiment.offload
        return Manifest(
            run_id=self._start.run_id,
            step=step,
            epoch=epoch,
            world_size=self._rank.world_size,
            node=self._rank.node if self._is_divided else 0,
            nodes=plan.launch.nodes if self._is_divided else 1,
            stage=shape_of(plan).stage,
            offload={
                "optimizer": offload.offload_optimizer.device,
                "parameters": offload.offload_param.device,
            },
            dtype=plan.engine.dtype,
            optimizer=plan.engine.optimizer,
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
