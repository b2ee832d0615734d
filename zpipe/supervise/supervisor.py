"""Starts the workers of a plan, follows what they say, and ends their whole process tree, always."""

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from zpipe.diagnose.evidence import Evidence, Heard, Silence, from_folder
from zpipe.machine.samples import Sampler
from zpipe.plan.plan import Plan
from zpipe.runfolder.disk_reserve import give_up, set_aside
from zpipe.runfolder.event_file import Event, EventReader
from zpipe.runfolder.lock import held
from zpipe.supervise.silence import SilenceWatch
from zpipe.supervise.stops import in_batch_job, signals_noted
from zpipe.supervise.tree import ProcessTree

POLL_SECONDS = 0.1
LOCK = ".supervised.lock"
"""Held while a supervisor lives; the kernel lets go of it when the process dies."""


def make_ready(plan: Plan) -> None:
    """Makes what a supervisor needs in the run folder; raises OSError where there is no room for it."""
    if plan.launch.argv:
        (plan.folder / "logs").mkdir(exist_ok=True)
    set_aside(plan.folder)


def supervised(run_dir: Path) -> AbstractContextManager[bool]:
    """Claims the supervision of a run; gives False if another process has it."""
    return held(run_dir / LOCK)


class Sink(Protocol):
    """Somebody who wants to hear every event."""

    def handle(self, event: Event) -> None: ...


@dataclass
class _End:
    """How the launch ended, as its supervisor saw it."""

    returncode: int
    stopped_by: int | None = None
    silence: Silence | None = None


def supervise(plan: Plan, sink: Sink) -> Evidence:
    """Runs the workers to their end. Blocks; every event goes to the sink in order.

    The run folder must be ready (`make_ready`).
    """
    heard = Heard()
    silence = SilenceWatch(plan.experiment.launcher.hang_timeout_s)

    def hear(event: Event) -> None:
        heard.hear(event)
        silence.update(event)
        sink.handle(event)

    follower = _Follower(plan.folder, hear)
    with supervised(plan.folder):
        try:
            watch = _Watch(plan, follower, silence)
            end = watch.spawned() if plan.launch.argv else watch.here()
            watch.sampler.sample()
        finally:
            give_up(plan.folder)
    return from_folder(
        plan.folder,
        heard,
        tuple(watch.sampler.kept),
        returncode=end.returncode,
        stopped_by=end.stopped_by,
        in_batch_job=in_batch_job(),
        silence=end.silence,
    )


class _Follower:
    def __init__(self, run_dir: Path, handle: Callable[[Event], None]) -> None:
        self._reader = EventReader(run_dir)
        self._handle = handle

    def catch_up(self) -> None:
        for event in self._reader.read_new():
            self._handle(event)


class _Watch:
    """One launch, from its start to its end."""

    def __init__(self, plan: Plan, follower: _Follower, silence: SilenceWatch) -> None:
        self._plan = plan
        self._follower = follower
        self._silence = silence
        self._tree: ProcessTree | None = None
        self.sampler = Sampler(plan.folder, self._resident_bytes, with_gpus=plan.launch.device == "cuda")

    def spawned(self) -> _End:
        """The workers as processes of their own."""
        log_file = self._plan.folder / "logs" / "launcher.log"
        with log_file.open("wb") as log, signals_noted() as caught:
            process = subprocess.Popen(
                self._plan.launch.argv,
                env={**os.environ, **self._plan.launch.env, **_launch_identity()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            tree = self._tree = ProcessTree(process.pid)
            silence = None
            try:
                while process.poll() is None:
                    self._look(tree)
                    if caught.number is not None:
                        tree.end(patience=lambda: caught.count < 2)
                    elif self._silence.is_too_long:
                        silence = self._give_up_on(tree)
                    time.sleep(POLL_SECONDS)
            finally:
                tree.end(patience=lambda: False)
            self._follower.catch_up()
            return _End(process.wait(), caught.number, silence)

    def here(self) -> _End:
        """The worker in this process; the events are followed from a thread."""
        from zpipe.launchers.worker_here import run_worker

        over = threading.Event()

        def follow() -> None:
            while not over.wait(POLL_SECONDS):
                self._follower.catch_up()
                self.sampler.tick()

        thread = threading.Thread(target=follow, name="zpipe-follow", daemon=True)
        thread.start()
        with signals_noted(interrupt=True) as caught:
            try:
                returncode = run_worker(self._plan)
            except KeyboardInterrupt:
                returncode = 1
            finally:
                over.set()
                thread.join()
                self._follower.catch_up()
        return _End(returncode, caught.number)

    def _look(self, tree: ProcessTree) -> None:
        self._follower.catch_up()
        tree.refresh()
        self.sampler.tick()

    def _give_up_on(self, tree: ProcessTree) -> Silence:
        """Notes what every rank is doing, and ends them: what hangs does not heed SIGTERM."""
        silence = Silence(self._silence.seconds, tree.rank_states())
        tree.write_stacks()
        tree.end(patience=lambda: False)
        return silence

    def _resident_bytes(self) -> int:
        if self._tree is None:
            return int(psutil.Process().memory_info().rss)
        return self._tree.resident_bytes()


def _launch_identity() -> dict[str, str]:
    """What tells this launch from an earlier one in the same folder, and whom the workers belong to."""
    parent = psutil.Process()
    return {"ZPIPE_LAUNCH_ID": uuid.uuid4().hex, "ZPIPE_PARENT": f"{parent.pid}:{parent.create_time()!r}"}
