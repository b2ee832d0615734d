"""Chooses the checkpoint that an attempt goes on from."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from zpipe.checkpoints.choice import newest_good
from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.home import checkpoint_home, is_divided
from zpipe.checkpoints.manifest import manifest_or_none
from zpipe.checkpoints.rotation import tidy
from zpipe.checkpoints.shape import is_distributed_anew, saved_shape, shape_of, shape_problems
from zpipe.checkpoints.state import CheckpointState
from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Problem, refuse_if_any
from zpipe.runfolder.attempt_start import AttemptStart, first_start
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.given_checkpoint import given_checkpoint, given_problems, inspected
from zpipe.running.start import Start

Say = Callable[[str], None]


def choose(plan: Plan, start: Start, say: Say) -> AttemptStart:
    """What attempt.json says. Raises Refusal for a checkpoint that cannot be used."""
    folder, home = folder_of(plan), checkpoint_home(plan)
    first = first_start(folder)
    if start.attempt > 1 or home != folder.path:
        tidy(home)
    if first is None and home != folder.path:
        refuse_if_any(_of_an_earlier_run(home))
    state = checkpoint_for(plan, say)
    if start.attempt > 1 and not is_divided(plan):
        said = f"step {state.step}, {state.path.name}" if state else "the beginning: there is no checkpoint"
        say(f"attempt {start.attempt} goes on from {said}")
    for line in reshaping_lines(plan, state):
        say(line)
    return AttemptStart(
        run_id=first.run_id if first is not None else uuid.uuid4().hex,
        checkpoint=str(state.path) if state else None,
        step=state.step if state else 0,
        changes=list(start.changes),
        command=without_secrets(plan).command,
    )


def _of_an_earlier_run(home: Path) -> Iterator[Problem]:
    """The folder is named after that of the run, which may have been another run before."""
    if checkpoints_in(home):
        reason = "it has checkpoints of an earlier run in this run folder"
        allowed = "another hydra.run.dir, or a folder without checkpoints"
        yield Problem("checkpoint.node_local_path", str(home), reason, allowed, f"move {home} away")


def checkpoint_for(plan: Plan, say: Say, *, quick: bool = False) -> CheckpointState | None:
    """What the next attempt goes on from; None is the beginning. Raises Refusal if that cannot be used.

    Without a checkpoint of its own, a run goes on from the one that it began with. Writes nothing. A quick
    choice compares names and sizes only. Nodes that have parts of checkpoints choose later, together.
    """
    if is_divided(plan):
        return None
    folder = folder_of(plan)
    first = first_start(folder)
    if first is None:
        refuse_if_any(unclaimed_problems(folder.path))
    found = _newest(plan, first, say, quick)
    if found is None:
        begun = given_checkpoint(plan) or _path(first.checkpoint if first is not None else None)
        found = inspected(plan, begun, say, quick) if begun is not None else None
    if found is not None and found.manifest is not None:
        refuse_if_any(shape_problems(plan, found.manifest))
    return found


def unclaimed_problems(run_dir: Path) -> Iterator[Problem]:
    """A run without a checkpoint of its own would begin at step 0 and write over these."""
    there = [folder for folder in checkpoints_in(run_dir) if manifest_or_none(folder) is not None]
    if not there:
        return
    reason = f"{there[0].name} is there, but no attempt.json tells which run wrote it"
    fix = f"put attempt-1/attempt.json back, or in a new folder: resume={there[0]} resume.trust=true"
    yield Problem("hydra.run.dir", str(run_dir), reason, "a run with its attempt.json", fix)


def reshaping_lines(plan: Plan, state: CheckpointState | None) -> list[str]:
    """What happens to a checkpoint of another shape; empty if there is none."""
    if state is None or state.manifest is None:
        return []
    saved, wanted = saved_shape(state.manifest), shape_of(plan)
    lines = []
    if is_distributed_anew(saved, wanted):
        lines.append(
            f"{state.path.name} of {saved} is distributed anew for {wanted}, without a copy on the disk"
        )
    if wanted.processes > saved.processes:
        new = f"{saved.processes} to {wanted.processes - 1}"
        lines.append(
            f"ranks {new} are new: their random numbers begin with seeds from train.seed and the step"
        )
    return lines


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _newest(plan: Plan, first: AttemptStart | None, say: Say, quick: bool) -> CheckpointState | None:
    if first is None:
        return None

    def skipped(state: CheckpointState) -> None:
        say(f"warning: {state.path.name} is {state.state} and is passed over: {'; '.join(state.damage[:3])}")

    return newest_good(checkpoint_home(plan), first.run_id, skipped, quick=quick)


def named_problems(plan: Plan) -> list[Problem]:
    """What is wrong with the folder in resume.checkpoint, as far as local files tell.

    A run that has a checkpoint of its own needs it no longer. Raises Refusal for one of another run.
    """
    folder = given_checkpoint(plan)
    first = first_start(folder_of(plan))
    if folder is None or _newest(plan, first, lambda _: None, quick=True) is not None:
        return []
    return given_problems(plan, folder)
