"""The points of a sweep as one Slurm job array: each task runs the job script of its point."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zpipe.launchers.slurm import SCRIPT_NAME, options, rendered
from zpipe.problems import Problem
from zpipe.runfolder.folder import RunFolder
from zpipe.schema.experiment import Experiment

_TEMPLATE = "array.sh.j2"
_REASON = "the points of a sweep are tasks of one job array, with the same resources"
OUTPUT_NAME = "slurm-%A_%a.out"
"""In the folder of the sweep; %A is the number of the array, %a that of the task."""


def array_script(point: Experiment, run_dirs: Mapping[int, Path], parent_run_id: str | None) -> str:
    """The script of the array, for the run folders by the numbers of their points.

    The resources are those of `point` and every other one; `parent_run_id` is the sweep's run in MLflow.
    """
    scripts = {number: RunFolder(folder).launch / SCRIPT_NAME for number, folder in run_dirs.items()}
    return rendered(
        _TEMPLATE,
        options=list(_options(point)),
        parent=shlex.quote(parent_run_id) if parent_run_id else "",
        tasks=[(number, shlex.quote(str(script))) for number, script in sorted(scripts.items())],
    )


def script_in(folder: Path, number: int) -> Path:
    """The script of an array in the folder of its sweep, which may have several, one after the other."""
    return folder / f"array-{number}.sh"


def array_argv(script: Path, numbers: Sequence[int], at_once: int | None) -> list[str]:
    """The command that submits the array; at most `at_once` tasks run together."""
    limit = f"%{at_once}" if at_once is not None else ""
    folder = script.parent
    return [
        "sbatch",
        "--parsable",
        f"--array={','.join(map(str, numbers))}{limit}",
        f"--job-name=zpipe-{folder.name}",
        f"--output={str(folder).replace('%', '%%')}/{OUTPUT_NAME}",
        str(script),
    ]


def same_job(first: Experiment, here: Experiment) -> Iterator[Problem]:
    """What keeps two points from being tasks of one array: sbatch's options are those of every task."""
    wanted, given = list(_options(first)), list(_options(here))
    if wanted != given:
        differing = " ".join(option for option in given if option not in wanted)
        allowed = " ".join(option for option in wanted if option not in given)
        yield Problem("launcher", differing, _REASON, allowed or "the settings of the first point")


def _options(experiment: Experiment) -> Iterator[str]:
    return options(experiment.launcher, experiment.hardware)
