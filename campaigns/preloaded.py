"""Starts zpipe in children of a process that has imported everything, so that a start takes two seconds."""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MODULES = (
    "torch",
    "deepspeed",
    "transformers",
    "datasets",
    "mlflow",
    "zpipe.cli.run",
    "zpipe.compose.job",
    "zpipe.train.tasks.train",
    "zpipe.train.trainers.causal_lm",
)


def preload() -> None:
    """Imports what a run on the CPU needs. Call it once, before any thread is started."""
    os.environ.update(DS_ACCELERATOR="cpu", HF_HUB_OFFLINE="1")
    for module in MODULES:
        importlib.import_module(module)
    # A child of a process with OpenMP threads hangs in its first parallel region.
    sys.modules["torch"].set_num_threads(1)
    gc.freeze()


@dataclass
class Child:
    """A run in a process of its own."""

    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def kill(self) -> None:
        """Ends the process and everything that it started, without warning."""
        if self.poll() is None:
            tree = [*_descendants(self.pid), self.pid]
            for pid in tree:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)


def start(arguments: Iterable[str], folder: Path, log: Path) -> Child:
    """Runs `zpipe ARGUMENTS` in this folder; what it prints is appended to the log."""
    pid = os.fork()
    if pid:
        return Child(pid)
    try:
        os.setsid()
        os.chdir(folder)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, sys.stdout.fileno())
        os.dup2(descriptor, sys.stderr.fileno())
        from zpipe.cli.main import main

        code = main(list(arguments))
    except BaseException:
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
