"""The launcher: renders a plan to a command line, starts it, and finds logs and exit codes of the ranks."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from zpipe.machine.search_path import reachable_path
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.plan_file import folder_of

if TYPE_CHECKING:
    import subprocess

    from zpipe.launchers.rank_exits import RankExit


class Launcher(ABC):
    """Rendering is pure: the same plan gives the same command on every machine."""

    is_local: ClassVar[bool] = True
    """Whether the workers run on this machine, where signals reach them and their memory can be sampled."""
    spawns: ClassVar[bool] = True
    """Whether the workers are processes of their own; otherwise `run_here` runs the only one."""

    environment: ClassVar[dict[str, str]] = {}
    """Variables that every worker of this launcher gets."""

    @abstractmethod
    def render(self, run_dir: Path, attempt: Attempt, nproc_per_node: int) -> list[str]:
        """The command line that starts every worker; empty for a launcher that does not spawn."""

    def start(self, plan: Plan, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Starts the command in its own session, with its output in the launcher's log."""
        import subprocess  # planning starts nothing

        given = {**os.environ, **plan.launch.env, **environment}
        with folder_of(plan).attempt.launcher_log.open("wb") as log:
            return subprocess.Popen(
                plan.launch.argv,
                env={**given, **reachable_path(given)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run_here(self, plan: Plan) -> int:
        """Runs the only worker in this process and returns its exit code."""
        raise NotImplementedError(f"{type(self).__name__} spawns its workers")

    def exits(self, attempt: Attempt) -> "list[RankExit]":
        """Every rank that did not end with exit code 0, the first one first."""
        from zpipe.launchers.rank_exits import read_rank_exits

        return read_rank_exits(attempt)

    def logs(self, attempt: Attempt) -> list[Path]:
        """Every log file, the standard errors of the ranks first."""
        from zpipe.launchers.logs import log_files

        return log_files(attempt)
