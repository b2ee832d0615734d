"""The points of a sweep as the tasks of one Slurm job array, followed until all of them have ended."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zpipe.launchers.slurm_array import array_argv, array_script, script_in
from zpipe.plans.plan import Plan
from zpipe.runfolder.atomic import write_text
from zpipe.runfolder.outcome import Outcome
from zpipe.running import slurm_queue as queue
from zpipe.running.start import Start
from zpipe.running.waiting import LOOK_SECONDS
from zpipe.terminal.console import say

Ended = Callable[[int, Outcome], None]


@dataclass(frozen=True)
class Task:
    """A point whose job script lies in its run folder."""

    number: int
    """Of the point in the sweep, and of the task in the array."""
    plan: Plan
    start: Start


@dataclass(frozen=True)
class JobArray:
    """A submitted array."""

    job: str
    folder: Path
    """Of the sweep."""
    tasks: Mapping[int, Task]

    def follow(self, ended: Ended) -> None:
        """Shows how many tasks wait and run, and calls `ended` for each that has ended."""
        shown, seen, left = "", dict.fromkeys(self.tasks, queue.UNKNOWN), set(self.tasks)
        while left:
            states = queue.states_of_tasks(self.job)
            if states is not None:
                seen.update((number, state) for number, (state, _) in states.items() if number in seen)
                for number in [each for each in sorted(left) if _is_over(each, states)]:
                    left.discard(number)
                    ended(number, self._outcome(number, seen[number]))
            text = "Slurm does not answer" if states is None else _summary(states, left)
            if text and text != shown:
                say(f"job array {self.job}: {text}")
                shown = text
            if left:
                time.sleep(LOOK_SECONDS)

    def _outcome(self, number: int, state: str) -> Outcome:
        task = self.tasks[number]
        name = f"{self.job}_{number}"
        output = str(self.folder / f"slurm-{name}.out")
        return queue.outcome_of_job(task.plan, task.start.attempt, name, state, output)


def submit_array(folder: Path, tasks: Sequence[Task], parent_run_id: str | None) -> JobArray:
    """Writes the script of the array into the folder of the sweep. Raises Refusal with Slurm's words."""
    point = tasks[0].plan.experiment
    settings = point.launcher
    script = _unused(folder)
    jobs = {task.number: Path(task.plan.run_dir) for task in tasks}
    write_text(script, array_script(point, jobs, parent_run_id))
    argv = array_argv(script, sorted(jobs), settings.array_parallelism)
    job = queue.submitted(argv, settings.slurm)
    say(f"submitted {len(jobs)} points as Slurm job array {job}; sweep folder {folder}")
    return JobArray(job, folder, {task.number: task for task in tasks})


def _unused(folder: Path) -> Path:
    number = 1
    while (script := script_in(folder, number)).exists():
        number += 1
    return script


def _is_over(number: int, states: Mapping[int, tuple[str, str]]) -> bool:
    """Slurm forgets a task some minutes after its end."""
    return number not in states or states[number][0] not in queue.ACTIVE


def _summary(states: Mapping[int, tuple[str, str]], left: set[int]) -> str:
    """`2 running, 3 pending (JobArrayTaskLimit)`."""
    counts = Counter(_described(*states[number]) for number in sorted(left) if number in states)
    return ", ".join(f"{count} {text}" for text, count in counts.items())


def _described(state: str, reason: str) -> str:
    return f"{state.lower()} ({reason})" if state == "PENDING" and reason != "None" else state.lower()
