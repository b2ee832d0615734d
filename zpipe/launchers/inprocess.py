"""No process of its own: the worker runs in the process of zpipe, for debuggers and notebooks."""

import os
import socket
import uuid
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


LAUNCHER = InProcess
