"""Hydra's launcher of a sweep whose points are the tasks of one Slurm job array.

Hydra takes launchers of the package `hydra_plugins` alone; this one is registered under such a name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, open_dict

from zpipe.compose.option_folders import repeatable
from zpipe.compose.overrides import as_typed, given_overrides
from zpipe.compose.point_plan import experiment_of_point, plan_of_point, worst_objective
from zpipe.exits import Exit
from zpipe.hydra_text import quoted
from zpipe.launchers.slurm_array import same_job
from zpipe.machine.hardware import Hardware, detect
from zpipe.problems import Refusal, refuse_if_any
from zpipe.runfolder.outcome import Outcome
from zpipe.running.array import JobArray, Task, submit_array
from zpipe.running.conclusion import refuse
from zpipe.running.slurm_queue import leave_or_cancel
from zpipe.running.submit import write_job
from zpipe.sweep import ledger
from zpipe.sweep.callback import ARRAY_LAUNCHER
from zpipe.sweep.definition import Definition, read_definition
from zpipe.sweep.point import begin_point
from zpipe.sweep.session import PointStopped, SweepLeft, current
from zpipe.sweep.settled import settled_before
from zpipe.terminal.console import print_problems

_PASSED_ON = ("hydra.searchpath",)
"""Hydra's own overrides that a point composed alone needs too."""


@dataclass
class _Point:
    number: int
    config: DictConfig
    overrides: Sequence[str]
    command: list[str]
    """The overrides as typed, without Hydra's own."""
    attempt: ledger.Attempt
    """The last state of it; of an earlier session if the point was settled then."""
    task: Task | None = None


class ArrayLauncher(BasicLauncher):
    """One job array for each batch of points that the sweeper asks for."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Returns when every point has ended. Raises PointStopped or SweepLeft if they go on without it."""
        assert self.config is not None
        folder, hardware = Path(self.config.hydra.sweep.dir).absolute(), detect()
        definition = read_definition(folder)
        assert definition is not None, f"{folder} has no sweep.json"
        points: list[_Point] = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            point = self._begun(folder, definition, number, overrides)
            points.append(point)
            if point.attempt.ending == ledger.UNFINISHED:
                first = next((each.task for each in points if each.task is not None), None)
                _prepare(folder, definition, point, first, hardware)
        _run(folder, definition, {each.number: each for each in points if each.task is not None})
        worst = worst_objective(self.config.hydra.sweeper)
        return [_returned(folder, point, worst) for point in points]

    def _begun(self, folder: Path, definition: Definition, number: int, overrides: Sequence[str]) -> _Point:
        config = self._composed(number, overrides)
        command = [as_typed(text) for text in given_overrides(config.hydra)[1]]
        known = settled_before(folder, command, definition.session)
        if known is None:
            run_dir = folder / str(config.hydra.sweep.subdir)
            _, known = begin_point(folder, run_dir, command, definition.session)
        return _Point(number, config, overrides, command, known)

    def _composed(self, number: int, overrides: Sequence[str]) -> DictConfig:
        """As Hydra's basic launcher composes a point."""
        assert self.hydra_context is not None
        assert self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        return config


def register_array_launcher() -> None:
    """Lets Hydra find it under its name."""
    Plugins.instance().class_name_to_class[ARRAY_LAUNCHER] = ArrayLauncher


def _prepare(
    folder: Path, definition: Definition, point: _Point, first: Task | None, hardware: Hardware
) -> None:
    """Writes the job of the point into its folder, or notes why there is none."""
    run_dir = folder / point.attempt.folder
    label = definition.label(point.command)
    try:
        composed = experiment_of_point(point.config, label)
        plan, start = plan_of_point(*composed, run_dir, _command(point, label), hardware)
        if start.finished is not None:
            _note(folder, point, start.finished)
            return
        if first is not None:
            refuse_if_any(same_job(first.plan.experiment, plan.experiment))
        write_job(plan, start)
    except Refusal as refusal:
        _note(folder, point, refuse(run_dir, refusal.problems))
        return
    point.task = Task(point.number, plan, start)


def _command(point: _Point, label: str) -> list[str]:
    """What composes this point alone."""
    of_hydra, command = given_overrides(point.config.hydra)[0], list(point.command)
    if label and not any(text.startswith("tracking.run_name=") for text in command):
        command.append(f"tracking.run_name={quoted(label)}")
    if any("${hydra" in text for text in command):
        command += [f"hydra.job.num={point.number}", f"hydra.job.id={point.number}"]
    return repeatable([*command, *(text for text in of_hydra if text.startswith(_PASSED_ON))])


def _run(folder: Path, definition: Definition, points: dict[int, _Point]) -> None:
    tasks = [point.task for point in points.values() if point.task is not None]
    if not tasks:
        return
    try:
        array = submit_array(folder, tasks, definition.mlflow_run_id)
    except Refusal as refusal:
        print_problems(refusal.problems)
        raise PointStopped(Exit.REFUSED) from refusal
    current().note_job(array.job)
    if not tasks[0].plan.experiment.launcher.wait:
        raise SweepLeft
    _follow(array, folder, points)


def _follow(array: JobArray, folder: Path, points: dict[int, _Point]) -> None:
    try:
        array.follow(lambda number, outcome: _note(folder, points[number], outcome))
    except KeyboardInterrupt:
        leave_or_cancel(array.job)
        raise


def _note(folder: Path, point: _Point, outcome: Outcome) -> None:
    point.attempt = point.attempt.with_outcome(outcome)
    ledger.append(folder, point.attempt)


def _returned(folder: Path, point: _Point, worst: float) -> JobReturn:
    return JobReturn(
        overrides=point.overrides,
        hydra_cfg=point.config,
        working_dir=str(folder / point.attempt.folder),
        status=JobStatus.COMPLETED,
        _return_value=ledger.objective_of(point.attempt, worst),
    )
