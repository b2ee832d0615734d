"""One point of a sweep, in the process where Hydra's launcher runs it: taken from the ledger, or run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Outcome
from zpipe.supervise.stops import Stopped, signals_noted
from zpipe.sweep import ledger
from zpipe.sweep.definition import Definition, read_definition
from zpipe.sweep.session import PointStopped, current
from zpipe.sweep.settled import settled_before

STOPPED = frozenset({"interrupted", "terminated", "preempted"})

RunPoint = Callable[[Path, Definition], Outcome]


def run_point(sweep_dir: Path, run_dir: Path, overrides: list[str], worst: float, run: RunPoint) -> float:
    """Runs the point unless an earlier session settled it; returns the objective for the sweeper.

    `worst` is returned for a point without an objective. Raises PointStopped if a signal ended the point.
    """
    definition = read_definition(sweep_dir)
    assert definition is not None, f"{sweep_dir} has no sweep.json"
    known = settled_before(sweep_dir, overrides, definition.session)
    if known is not None:
        return ledger.objective_of(known, worst)
    with signals_noted() as caught:
        folder, attempt = begin_point(sweep_dir, run_dir, overrides, definition.session)
        _copy_record(run_dir, folder)
        outcome = run(folder, definition)
        attempt = attempt.with_outcome(outcome)
        ledger.append(sweep_dir, attempt)
    if current().leads and outcome.ending in STOPPED:
        raise PointStopped(outcome.exit_code)
    if current().leads and caught.number is not None:  # it came after the workers had ended
        raise PointStopped(Stopped(caught.number).exit_code)
    return ledger.objective_of(attempt, worst)


def begin_point(
    sweep_dir: Path, run_dir: Path, overrides: list[str], session: int
) -> tuple[Path, ledger.Attempt]:
    """Notes in the ledger that the point begins, and returns its folder and the attempt at it.

    The folder is `run_dir`, in which an unfinished run of this point goes on, or a new one next to it if that
    holds another point.
    """
    point = ledger.identity(overrides)
    own = {sweep_dir / each.folder for each in ledger.attempts(sweep_dir) if each.point == point}
    folder, number = run_dir, 1
    while RunFolder(folder).occupied_by() and folder not in own:
        number += 1
        folder = run_dir.with_name(f"{run_dir.name}-{number}")
    relative = os.path.relpath(folder, sweep_dir)  # hydra.sweep.subdir may have several levels
    attempt = ledger.new_attempt(relative, overrides, session)
    ledger.append(sweep_dir, attempt)
    return folder, attempt


def _copy_record(run_dir: Path, folder: Path) -> None:
    """Hydra has written its record of the composition into the folder that it chose."""
    if folder != run_dir:
        shutil.copytree(RunFolder(run_dir).hydra, RunFolder(folder).hydra, dirs_exist_ok=True)
