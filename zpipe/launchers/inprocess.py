"""No process of its own: the worker runs in the process of zpipe, for debuggers and notebooks."""

import os
import socket
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from zpipe.launchers.base import LOOPBACK, Job, Launcher, Rendered
from zpipe.plans.plan import Plan


class InProcess(Launcher):
    spawns: ClassVar[bool] = False
    most_processes: ClassVar[int | None] = 1

    def render(self, job: Job) -> Rendered:
        del job
        return Rendered([], LOOPBACK)

    def run_here(self, plan: Plan) -> int:
        """No agent sets the variables of the only rank, so this method does."""
        with _environment_kept(), _without_noise():
            os.environ.update(plan.launch.env)
            os.environ.update(
                RANK="0",
                LOCAL_RANK="0",
                WORLD_SIZE="1",
                LOCAL_WORLD_SIZE="1",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(_free_port()),
                ZPIPE_LAUNCH_ID=uuid.uuid4().hex,
            )
            from zpipe.train.worker import run

            return int(run(Path(plan.run_dir)))


@contextmanager
def _environment_kept() -> Iterator[None]:
    """The process may go on to other work, as a notebook does, and to runs under other launchers."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _without_noise() -> Iterator[None]:
    """Warnings of libraries to their callers, which the worker of another launcher writes to its log."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\..*")
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


LAUNCHER = InProcess
