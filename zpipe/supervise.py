"""Starts the workers of a plan, follows what they say, and ends their whole process tree, always."""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import psutil

from zpipe.events import Event, EventReader
from zpipe.plan import Plan

POLL_SECONDS = 0.1
GRACE_SECONDS = 15.0
"""Between the polite signal and the last one."""


class Sink(Protocol):
    """Somebody who wants to hear every event."""

    def handle(self, event: Event) -> None: ...


@dataclass
class Evidence:
    """What is known about the end of the workers."""

    returncode: int
    stopped_by: int | None = None
    """The signal that the parent got and passed on."""
    refused: list[dict[str, Any]] = field(default_factory=list)
    failed: Event | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    done: bool = False


def supervise(plan: Plan, sink: Sink) -> Evidence:
    """Runs the workers to their end. Blocks; every event goes to the sink in order."""
    collector = _Collector(sink)
    follower = _Follower(plan.folder, collector.handle)
    if plan.launch.argv:
        returncode, stopped_by = _run_spawned(plan, follower)
    else:
        returncode, stopped_by = _run_here(plan, follower)
    evidence = collector.evidence
    evidence.returncode, evidence.stopped_by = returncode, stopped_by
    return evidence


class _Collector:
    """Keeps what decides about the ending, and passes every event on."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.evidence = Evidence(returncode=0)

    def handle(self, event: Event) -> None:
        kind = event["event"]
        if kind == "refused":
            self.evidence.refused = event["problems"]
        elif kind == "failed":
            self.evidence.failed = event
        elif kind == "summary":
            self.evidence.summary = event["values"]
        elif kind == "phase" and event["name"] == "done":
            self.evidence.done = True
        self._sink.handle(event)


class _Follower:
    def __init__(self, run_dir: Path, handle: Callable[[Event], None]) -> None:
        self._reader = EventReader(run_dir)
        self._handle = handle

    def catch_up(self) -> None:
        for event in self._reader.read_new():
            self._handle(event)


def _run_spawned(plan: Plan, follower: _Follower) -> tuple[int, int | None]:
    logs = plan.folder / "logs"
    logs.mkdir(exist_ok=True)
    environment = {**os.environ, **plan.launch.env, **_launch_identity()}
    with (logs / "launcher.log").open("wb") as log, _signals() as caught:
        process = subprocess.Popen(
            plan.launch.argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        tree = _Tree(process.pid)
        try:
            while process.poll() is None:
                follower.catch_up()
                tree.look()
                if caught.number is not None:
                    tree.end(patience=lambda: caught.count < 2)
                time.sleep(POLL_SECONDS)
        finally:
            tree.end(patience=lambda: False)
        follower.catch_up()
        return process.wait(), caught.number


def _run_here(plan: Plan, follower: _Follower) -> tuple[int, int | None]:
    """The worker in this process; the events are followed from a thread."""
    from zpipe.inprocess import run_worker

    over = threading.Event()

    def follow() -> None:
        while not over.wait(POLL_SECONDS):
            follower.catch_up()

    thread = threading.Thread(target=follow, name="zpipe-follow", daemon=True)
    thread.start()
    try:
        return run_worker(plan), None
    except KeyboardInterrupt:
        return 1, signal.SIGINT
    finally:
        over.set()
        thread.join()
        follower.catch_up()


def _launch_identity() -> dict[str, str]:
    """What tells this launch from an earlier one in the same folder, and whom the workers belong to."""
    parent = psutil.Process()
    return {"ZPIPE_LAUNCH_ID": uuid.uuid4().hex, "ZPIPE_PARENT": f"{parent.pid}:{parent.create_time()!r}"}


@dataclass
class _Caught:
    number: int | None = None
    count: int = 0


@contextmanager
def _signals() -> Iterator[_Caught]:
    """Notes SIGINT and SIGTERM instead of dying of them; off the main thread there is nothing to note."""
    caught = _Caught()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: FrameType | None) -> None:
        caught.number = caught.number or number
        caught.count += 1

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Tree:
    """A process and all its descendants, remembered: torchrun gives each rank its own session."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._known: dict[int, psutil.Process] = {pid: self._root}
        self._looked = 0.0

    def look(self) -> None:
        """Notes new descendants, at most once a second."""
        if time.monotonic() - self._looked < 1.0:
            return
        self._looked = time.monotonic()
        try:
            for child in self._root.children(recursive=True):
                self._known.setdefault(child.pid, child)
        except psutil.NoSuchProcess:
            return

    def end(self, patience: Callable[[], bool]) -> None:
        """SIGTERM to the launcher, which passes it to all ranks together; SIGKILL for what is left."""
        self._looked = 0.0
        self.look()
        if patience():
            self._send(self._root, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while self._alive() and time.monotonic() < deadline and patience():
                time.sleep(POLL_SECONDS)
        for process in self._alive():
            self._send(process, signal.SIGKILL)
        psutil.wait_procs(self._known.values(), timeout=GRACE_SECONDS)

    def _alive(self) -> list[psutil.Process]:
        return [
            process
            for process in self._known.values()
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    @staticmethod
    def _send(process: psutil.Process, number: signal.Signals) -> None:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return
