"""One checkpoint of one rank: its files are written by threads, while this rank trains or waits for them.

The states are copied first. That too happens beside the training, up to the next step of the optimizer.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zpipe.checkpoints.manifest import FileEntry
from zpipe.checkpoints.shares import leave_failure, leave_share
from zpipe.checkpoints.streamed_file import StreamedFile
from zpipe.train.host_buffers import HostBuffers
from zpipe.train.snapshot import Snapshot

_THREADS = 2
"""Files that are written at the same time: the processor digests one while the disk takes another."""

Write = Callable[[Any, StreamedFile], None]
"""Writes a state to a file."""


@dataclass(frozen=True)
class _Job:
    path: Path
    state: Callable[[], Any]
    write: Write


class Save:
    """The files of one rank go into `folder`, of which all ranks together make a checkpoint.

    Copies are made in `buffers`; weights that a rank gathers from all ranks are in `gathered` already.
    `unsettled` are addresses of storages that may change before the next optimizer step; None: all may.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        buffers: HostBuffers,
        gathered: HostBuffers,
        *,
        in_background: bool,
        unsettled: Container[int] | None = None,
    ) -> None:
        self.folder = folder
        self.lacking: tuple[int, int] | None = None
        """Needed and free bytes, if a state did not fit into host memory and was written at once."""
        self.gathered = gathered
        self.seconds_written = 0.0
        self._rank, self._buffers, self._in_background = rank, buffers, in_background
        self._unsettled = unsettled
        self._began = time.perf_counter()
        self._snapshot_seconds = 0.0
        self._waits_since: float | None = None
        self._snapshots: list[Snapshot] = []
        self._copied = threading.Event()
        self._added: set[Path] = set()
        self._jobs: deque[_Job] = deque()
        self._entries: list[FileEntry] = []
        self._errors: list[BaseException] = []
        self._thread: threading.Thread | None = None
        buffers.begin()
        gathered.begin()

    def add(self, path: Path, state: Any, write: Write) -> None:
        """Writes a state as it is now: a copy of it in the background, or itself at once. Raises OSError.

        A file that was added before is left as it is: if the weights are not gathered, transformers saves
        DeepSpeed's states twice (trainer.py, save_model and _save_optimizer_and_scheduler).
        """
        if path in self._added:
            return
        self._added.add(path)
        snapshot = Snapshot(state, self.gathered.owns)
        if snapshot.is_on_gpu():
            torch.cuda.synchronize()
        lacking = self._buffers.lacking(snapshot.storages())
        if self._in_background and lacking is None:
            snapshot.reserve(self._buffers)
            snapshot.copy(only=self._unsettled)
            self._snapshots.append(snapshot)
            self._jobs.append(_Job(path, snapshot.state, write))
            return
        if self._in_background:
            self.lacking = self.lacking or lacking
        elif lacking is None and snapshot.is_on_gpu():
            self._buffers.begin()
            snapshot.reserve(self._buffers)
            snapshot.copy()
            state = snapshot.state()
        self._write(_Job(path, lambda: state, write))

    def go_on(self, complete: Callable[["Save"], None]) -> None:
        """Lets the training go on. A thread calls `complete` when this rank has written its files."""
        self._snapshot_seconds = time.perf_counter() - self._began
        self._thread = _started(lambda: self._finish(complete))

    def wait_for_copies(self) -> None:
        """Until the optimizer may change the states."""
        if not self._copied.is_set():
            began = time.perf_counter()
            self._copied.wait()
            self._snapshot_seconds += time.perf_counter() - began

    def wait(self) -> None:
        """Until `complete` has returned. Raises what ended the writing."""
        self._waits_since = time.perf_counter()
        if self._thread is not None:
            self._thread.join()
        self.check()

    def check(self) -> None:
        """Raises what has ended the writing, if something did."""
        if self._errors:
            raise self._errors[0]

    def held_up(self) -> dict[str, float]:
        """Seconds that the training stood still until now."""
        waited = 0.0 if self._waits_since is None else time.perf_counter() - self._waits_since
        return {"snapshot": self._snapshot_seconds, "wait": waited}

    def _finish(self, complete: Callable[["Save"], None]) -> None:
        self._copy()
        threads = [_started(self._write_jobs) for _ in range(min(_THREADS, len(self._jobs)))]
        for thread in threads:
            thread.join()
        try:
            self.check()
            leave_share(self.folder, self._rank, self._entries)
            self.seconds_written = time.perf_counter() - self._began
            complete(self)
        except BaseException as error:
            leave_failure(self.folder, self._rank, error)
            if not self._errors:
                self._errors.append(error)

    def _copy(self) -> None:
        try:
            for snapshot in self._snapshots:
                snapshot.copy()
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._snapshots.clear()
            self._copied.set()

    def _write_jobs(self) -> None:
        while not self._errors:
            try:
                job = self._jobs.popleft()
            except IndexError:
                return
            try:
                self._write(job)
            except BaseException as error:
                self._errors.append(error)

    def _write(self, job: _Job) -> None:
        file = StreamedFile(job.path)
        try:
            job.write(job.state(), file)
            count, digest = file.finish()
        finally:
            file.close()
        path = job.path.relative_to(self.folder).as_posix()
        self._entries.append(FileEntry(path=path, bytes=count, digest=digest))


def _started(work: Callable[[], None]) -> threading.Thread:
    """A thread that a process which ends does not wait for."""
    thread = threading.Thread(target=work, name="zpipe-save", daemon=True)
    thread.start()
    return thread
