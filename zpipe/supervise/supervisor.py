"""Starts the workers of a plan, follows their events, and always ends their whole process tree."""

import _thread
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil

from zpipe.diagnose.evidence import NOWHERE, Evidence, Silence, from_folder
from zpipe.launchers import launcher_of
from zpipe.launchers.rank_exits import RankExit
from zpipe.machine.guard import guarded
from zpipe.machine.memlock import preloaded
from zpipe.machine.process_identity import own_identity, place
from zpipe.machine.samples import Sampler
from zpipe.plans.plan import Plan
from zpipe.runfolder import disk_reserve
from zpipe.runfolder.events import AttemptBegan, Event
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.supervise.graceful import GracefulStop
from zpipe.supervise.hosts import Hosts
from zpipe.supervise.hosts_tree import HostsTree
from zpipe.supervise.nodes import Nodes, with_other_node
from zpipe.supervise.silence import SilenceWatch
from zpipe.supervise.stops import Caught, in_batch_job, signals_noted
from zpipe.supervise.tree import ProcessTree

POLL_SECONDS = 0.1
LOOKING_SECONDS = 5.0
"""Far more than a command needs to see whether a run has a supervisor."""


class Display(Protocol):
    """Shows each event, after the progress of the run was updated with it."""

    def update(self, event: Event) -> None: ...


@dataclass
class _End:
    """How the launch ended, as its supervisor saw it."""

    returncode: int
    stopped_by: int | None = None
    silence: Silence | None = None
    seen_exits: tuple[RankExit, ...] = ()


def make_ready(plan: Plan) -> None:
    """Creates what a supervisor needs in the run folder. Raises OSError if there is no room for it."""
    attempt = folder_of(plan).attempt
    if plan.launch.argv:
        attempt.logs.mkdir(exist_ok=True)
    disk_reserve.take(attempt)


def supervise(
    plan: Plan, progress: RunProgress, display: Display, caught: Caught, others: Nodes | Hosts | None = None
) -> Evidence:
    """Runs the workers to their end. Blocks; every event updates `progress` and the display, in order.

    The run folder must be ready (`make_ready`). A signal in `caught` ends the workers, and so does the
    failure of another node.
    """
    folder = folder_of(plan)
    silence = SilenceWatch(plan.experiment.launcher.hang_timeout_s)
    follower = Follower(folder, progress, silence, display)
    with folder.supervision(patience=LOOKING_SECONDS):
        try:
            stop = GracefulStop(plan, progress, caught)
            watch = _Watch(plan, follower, silence, stop, caught, others)
            end = watch.spawned() if launcher_of(plan.launch.launcher).spawns else watch.here()
            watch.sampler.sample()
        finally:
            disk_reserve.release(folder.attempt)
    evidence = from_folder(
        folder,
        progress,
        tuple(watch.sampler.kept),
        returncode=end.returncode,
        stopped_by=end.stopped_by,
        in_batch_job=in_batch_job(),
        silence=end.silence,
        folder_is_gone=not folder.path.is_dir(),
        seen_exits=end.seen_exits,
        own_ranks=range(plan.launch.nproc_per_node) if isinstance(others, Nodes) else None,
        places=others.places() if isinstance(others, Hosts) else NOWHERE,
    )
    return evidence if others is None else with_other_node(evidence, others)


class Follower:
    """Reads the new events of the last attempt, and passes each to everything that depends on it."""

    def __init__(self, folder: RunFolder, progress: RunProgress, *others: Display | SilenceWatch) -> None:
        self._events, earlier = RunEvents.after_attempt(folder, folder.attempt.number - 1)
        for event in earlier:
            progress.update(event)
        if folder.attempt.number > 1:  # the workers may end before they tell that they began
            progress.update(AttemptBegan(number=folder.attempt.number, step=progress.step))
        self._updated = (progress, *others)

    def catch_up(self) -> None:
        for event in self._events.read_new():
            for each in self._updated:
                each.update(event)


class _Watch:
    """One launch, from its start to its end."""

    def __init__(
        self,
        plan: Plan,
        follower: Follower,
        silence: SilenceWatch,
        stop: GracefulStop,
        caught: Caught,
        others: Nodes | Hosts | None,
    ) -> None:
        self._plan = plan
        self._others = others
        self._hosts = others if isinstance(others, Hosts) else None
        self._stop = stop
        self._folder = folder_of(plan)
        self._caught = caught
        self._launcher = launcher_of(plan.launch.launcher)
        self._follower = follower
        self._silence = silence
        self._tree: ProcessTree | None = None
        self.sampler = Sampler(
            self._folder.attempt, self._resident_bytes, with_gpus=plan.launch.device == "cuda"
        )

    def spawned(self) -> _End:
        """The workers in processes of their own."""
        with guarded("ZPIPE_LAUNCH_ID", None if self._hosts is None else self._hosts.mark) as mark:
            return self._to_the_end({**mark, **launch_environment(self._plan)})

    def _to_the_end(self, environment: Mapping[str, str]) -> _End:
        process = self._launcher.start(self._plan, self._folder.attempt, environment)
        tree = self._tree = self._tree_of(process.pid)
        silence = None
        try:
            while process.poll() is None:
                self._look(tree)
                if self._must_end():
                    tree.end(patience=lambda: self._caught.count < 2)
                elif self._silence.is_too_long:
                    silence = self._end_hung(tree)
                time.sleep(POLL_SECONDS)
        finally:
            tree.end(patience=lambda: False)
        self._follower.catch_up()
        return _End(process.wait(), self._caught.number, silence, tree.rank_exits())

    def _tree_of(self, pid: int) -> ProcessTree:
        return ProcessTree(pid) if self._hosts is None else HostsTree(pid, self._hosts)

    def _must_end(self) -> bool:
        if not self._folder.path.is_dir() or (self._others is not None and self._others.failed() is not None):
            return True
        return self._caught.number is not None and not self._stop.is_under_way()

    def here(self) -> _End:
        """The worker in this process; a thread follows its events."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(POLL_SECONDS):
                self._follower.catch_up()
                self.sampler.tick()
                if self._caught.count == 1 and self._must_end():
                    _thread.interrupt_main()

        thread = threading.Thread(target=follow, name="zpipe-follow", daemon=True)
        thread.start()
        with signals_noted(interrupt_at=2):
            try:
                returncode = self._launcher.run_here(self._plan)
            except KeyboardInterrupt:
                returncode = 1
            finally:
                over.set()
                thread.join()
                self._follower.catch_up()
        return _End(returncode, self._caught.number)

    def _look(self, tree: ProcessTree) -> None:
        self._follower.catch_up()
        tree.refresh()
        tree.look_for_ended_ranks()
        if self._others is not None:
            self._others.tell()
        self.sampler.tick()

    def _end_hung(self, tree: ProcessTree) -> Silence:
        """Records the state of every rank and kills them: a hung process ignores SIGTERM."""
        silence = Silence(self._silence.seconds, tree.rank_states())
        tree.write_stacks()
        tree.end(patience=lambda: False)
        return silence

    def _resident_bytes(self) -> int:
        if self._tree is None:
            return int(psutil.Process().memory_info().rss)
        return self._tree.resident_bytes()


def launch_environment(plan: Plan) -> dict[str, str]:
    """The variables that identify the parent process, on which the workers depend.

    Where locked memory is limited, also the library with which NVMe offload runs nevertheless.
    """
    identity = {"ZPIPE_PARENT": own_identity(), "ZPIPE_PARENT_PLACE": place()}
    if "async_io" not in plan.operators:
        return identity
    return {**identity, **preloaded({**os.environ, **plan.launch.env})}
