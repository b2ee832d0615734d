"""The output of `zpipe checkpoints`: a line for each one, what is wrong, and the command that goes on."""

import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zpipe.checkpoints.best import Best, best_checkpoint, best_of
from zpipe.checkpoints.folders import step_of
from zpipe.checkpoints.state import NO_STEP, CheckpointState
from zpipe.checkpoints.survey import usage_of
from zpipe.cli.output import Format, is_data, print_data
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import read_outcome
from zpipe.terminal.console import print_table, show
from zpipe.terminal.units import number, size

_COLUMNS = ("step", "state", "size", "written", "processes", "stage", "dtype")
_MOST_FINDINGS = 3
"""Printed of one checkpoint; data has them all."""


@dataclass(frozen=True)
class CheckpointList:
    """The checkpoints of one run, newest first, with the values of the metric that was asked for."""

    folder: RunFolder
    found: list[CheckpointState]
    is_verified: bool
    """Whether contents were compared, not names and sizes alone."""
    metric: str | None
    values: Mapping[int, float]

    @property
    def is_useless(self) -> bool:
        """Whether there are checkpoints, and none with which the run could go on."""
        complete = [each for each in self.found if step_of(each.path) is not None]
        return bool(complete) and not any(each.state == "good" for each in complete)

    def show(self, form: Format) -> None:
        if is_data(form):
            print_data(self._data(), form)
            return
        if self.found:
            print_table(_COLUMNS, map(_cells, self.found))
        if form == "text":
            show("\n".join(self._lines()))

    def _data(self) -> dict[str, Any]:
        best = self._best()
        return {
            "run_dir": str(self.folder.path),
            "verified": self.is_verified,
            "checkpoints": [_as_data(each) for each in self.found],
            "goes_on_from": self._next.path.name if self._next and self._next.state == "good" else None,
            "best": None if best is None else {**asdict(best[0]), "checkpoint": best[1].path.name},
        }

    def _lines(self) -> Iterator[str]:
        yield from (_finding(each) for each in self.found if each.damage)
        if self.found and not self.is_verified:
            yield "only names and sizes were compared"
        if self.metric is not None:
            yield self._best_line(self.metric)
        yield self._last_line()

    def _best(self) -> tuple[Best, CheckpointState] | None:
        return None if self.metric is None else best_checkpoint(self.metric, self.values, self.found)

    def _best_line(self, metric: str) -> str:
        best, overall = self._best(), best_of(metric, self.values)
        if overall is None:
            return f"best {metric}: none, it was never finite"
        said = f"{number(overall.value)} at step {overall.step}"
        if best is None:
            return f"best {metric}: {said}, but no intact checkpoint is of a step at which it was logged"
        if best[0].step == overall.step:
            return f"best {metric}: {said}, {best[1].path.name}"
        own = f"{number(best[0].value)} at step {best[0].step}, {best[1].path.name}"
        return f"best {metric}: {own} (without a checkpoint: {said})"

    @property
    def _next(self) -> CheckpointState | None:
        """What decides how the run goes on: a checkpoint of another run is not passed over."""
        return next((each for each in self.found if each.state in ("good", "other run")), None)

    def _last_line(self) -> str:
        """The command that goes on from here."""
        command = shlex.join(["zpipe", f"resume={self.folder.path}"])
        if self.folder.is_supervised:
            return "this run is in progress"
        if self._next is not None and self._next.state == "other run":
            return f"move {self._next.path.name} out of the run folder, then go on:  {command}"
        outcome = read_outcome(self.folder)
        if outcome is not None and outcome.ending == "finished":
            return f"finished; with a larger train.max_steps or train.num_train_epochs it goes on:  {command}"
        if self._next is None:
            why = "no checkpoint can be used" if self.found else "no checkpoints"
            return f"{why}; begin again:  {command}"
        return f"go on from step {self._next.step}:  {command}"


def _finding(found: CheckpointState) -> str:
    more = len(found.damage) - _MOST_FINDINGS
    said = "; ".join(found.damage[:_MOST_FINDINGS]) + (f"; and {more} more" if more > 0 else "")
    return f"{found.path.name} is {found.state}: {said}"


def _cells(found: CheckpointState) -> list[str]:
    manifest, usage = found.manifest, usage_of(found)
    step = "" if found.step == NO_STEP else str(found.step)
    known = [str(manifest.world_size), str(manifest.stage), manifest.dtype] if manifest else ["", "", ""]
    return [step, found.state, size(usage.bytes), _local_time(usage.time), *known]


def _as_data(found: CheckpointState) -> dict[str, Any]:
    manifest, usage = found.manifest, usage_of(found)
    return {
        "name": found.path.name,
        "step": None if found.step == NO_STEP else found.step,
        "state": found.state,
        "findings": list(found.damage),
        "bytes": usage.bytes,
        "time": usage.time,
        "world_size": manifest.world_size if manifest else None,
        "stage": manifest.stage if manifest else None,
        "dtype": manifest.dtype if manifest else None,
        "offload": manifest.offload if manifest else None,
    }


def _local_time(seconds: float | None) -> str:
    """Empty for a time that is unknown, or that no clock has shown."""
    try:
        return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""
