"""The job array of a sweep that is only planned."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from zpipe.compose.points import PlannedPoint
from zpipe.launchers import makes_arrays
from zpipe.launchers.slurm_array import array_argv, array_script, script_in
from zpipe.schema.experiment import Experiment
from zpipe.terminal.console import show


class ArrayShown:
    """The points that would be its tasks."""

    def __init__(self) -> None:
        self._folders: dict[int, Path] = {}
        self._first: Experiment | None = None

    def noted(self, planned: Iterable[PlannedPoint]) -> Iterator[PlannedPoint]:
        """The same points, of which the tasks are noted on the way."""
        for each in planned:
            if each.plan is not None and makes_arrays(each.plan.launch.launcher):
                self._folders[each.point.number] = each.point.folder
                self._first = self._first or each.plan.experiment
            yield each

    def show(self) -> None:
        """Prints the script and the command that submits it, if there is an array."""
        if self._first is None:
            return
        script = script_in(next(iter(self._folders.values())).parent, 1)
        command = array_argv(script, sorted(self._folders), self._first.launcher.array_parallelism)
        show(f"\n{script}\n{array_script(self._first, self._folders, None)}\ncommand")
        show(f"  {shlex.join(command)}")
