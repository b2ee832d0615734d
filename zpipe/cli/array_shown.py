"""The job array of a sweep that is only planned."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from zpipe.compose.points import PlannedPoint
from zpipe.launchers import makes_arrays
from zpipe.launchers.slurm_array import array_argv, array_script, script_in
from zpipe.schema.launcher import Launcher
from zpipe.terminal.console import show


class ArrayShown:
    """The points that would be its tasks."""

    def __init__(self) -> None:
        self._folders: dict[int, Path] = {}
        self._settings: Launcher | None = None

    def noted(self, planned: Iterable[PlannedPoint]) -> Iterator[PlannedPoint]:
        """The same points, of which the tasks are noted on the way."""
        for each in planned:
            if each.plan is not None and makes_arrays(each.plan.launch.launcher):
                self._folders[each.point.number] = each.point.folder
                self._settings = self._settings or each.plan.experiment.launcher
            yield each

    def show(self) -> None:
        """Prints the script and the command that submits it, if there is an array."""
        if self._settings is None:
            return
        script = script_in(next(iter(self._folders.values())).parent, 1)
        command = array_argv(script, sorted(self._folders), self._settings.array_parallelism)
        show(f"\n{script}\n{array_script(self._settings, self._folders, None)}\ncommand")
        show(f"  {shlex.join(command)}")
