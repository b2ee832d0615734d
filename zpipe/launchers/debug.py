"""One worker without an agent: the least that a launcher is, and the template for a new one."""

import sys
from collections.abc import Mapping
from typing import ClassVar

from zpipe.launchers.base import LOOPBACK, NO_FOREIGN_IMPORTS, WORKER, Job, Launcher, Rendered


class Debug(Launcher):
    """The worker is the process that zpipe starts. Its output is the launcher's log."""

    most_processes: ClassVar[int | None] = 1
    environment: ClassVar[Mapping[str, str]] = {
        **LOOPBACK,
        **NO_FOREIGN_IMPORTS,
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
    }

    def render(self, job: Job) -> Rendered:
        return Rendered([sys.executable, "-m", WORKER, str(job.run.path)])


LAUNCHER = Debug
