"""One worker without an agent: the least that a launcher is, and the template for a new one."""

import sys
from typing import ClassVar

from zpipe.launchers.base import LOOPBACK, NO_FOREIGN_IMPORTS, Job, Launcher, Rendered


class Debug(Launcher):
    """The worker is the process that zpipe starts. Its output is the launcher's log."""

    most_processes: ClassVar[int | None] = 1

    def render(self, job: Job) -> Rendered:
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
        argv = [sys.executable, "-m", job.worker, str(job.run.path)]
        return Rendered(argv, {**LOOPBACK, **NO_FOREIGN_IMPORTS, **alone})


LAUNCHER = Debug
