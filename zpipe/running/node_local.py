"""Checkpoints of which each node has its own part: a run goes on from the newest one that all nodes have."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.home import checkpoint_home
from zpipe.checkpoints.rotation import tidy
from zpipe.checkpoints.shape import saved_shape, shape_of
from zpipe.checkpoints.state import UNKNOWN_RUN, CheckpointState, inspect
from zpipe.hostlist import nodes_text
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.runfolder.attempt_start import first_start, read_start, write_start
from zpipe.runfolder.folder import Attempt, checkpoint_name
from zpipe.runfolder.foreign_files import read_text
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents

Say = Callable[[str], None]
_KEY, _PATH = "checkpoint.node_local", "checkpoint.node_local_path"
_MOST = 3
"""Steps that a node offers: a run that is killed leaves nodes that differ by one, and one may be damaged."""
_OWNER = ".zpipe-node"
"""A file in the folder of the run on a node's disk, with the number of the node."""


def intact_steps(plan: Plan, say: Say) -> list[int]:
    """The newest steps of which this node has its part intact, newest first. Reads these files.

    Raises Refusal for a folder that cannot be used, or that is of another node or another run.
    """
    home = checkpoint_home(plan)
    try:
        _take(home, plan.experiment.launcher.node_rank)
        tidy(home)
        return list(_intact(plan, home, say))
    except OSError as error:
        reason = f"this node cannot use it: {error.strerror or error}"
        allowed = "a folder on the local disk of each node"
        raise Refusal([Problem(_PATH, str(home), reason, allowed)]) from error


def agree(plan: Plan, attempt: Attempt, parts: Mapping[int, list[int]], say: Say) -> None:
    """Writes into attempt.json what the attempt goes on from; `parts` are the intact steps of each node.

    Raises Refusal if the run has saved checkpoints, and there is none that all nodes have.
    """
    common = set.intersection(*map(set, parts.values()))
    if not common:
        refuse_if_any(_nothing_in_common(plan, parts))
        if attempt.number > 1:
            say(f"attempt {attempt.number} goes on from the beginning: there is no checkpoint")
        return
    step = max(common)
    update = {"checkpoint": str(checkpoint_home(plan) / checkpoint_name(step)), "step": step}
    write_start(attempt, read_start(attempt).model_copy(update=update))
    say(f"attempt {attempt.number} goes on from step {step}, of which every node has its part")


def _take(home: Path, node: int) -> None:
    """Raises Refusal if another node has this folder: they share it, or their numbers have changed."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        with (home / _OWNER).open("x", encoding="utf-8") as file:
            file.write(str(node))
    except FileExistsError:
        owner = read_text(home / _OWNER).strip()
        if owner != str(node):
            reason = f"it is the folder of node {owner}, and this is node {node}"
            allowed = "a folder that the nodes do not share, and the numbers that they had before"
            raise Refusal([Problem(_PATH, str(home), reason, allowed)]) from None


def _intact(plan: Plan, home: Path, say: Say) -> Iterator[int]:
    start, found = first_start(folder_of(plan)), 0
    for folder in checkpoints_in(home):
        state = inspect(folder, start.run_id if start is not None else UNKNOWN_RUN)
        refuse_if_any([*_of_another_run(state), *_misplaced(plan, state)])
        if state.damage:
            say(f"warning: {folder.name} on this node is passed over: {'; '.join(state.damage[:3])}")
            continue
        yield state.step
        found += 1
        if found == _MOST:
            return


def _of_another_run(state: CheckpointState) -> Iterator[Problem]:
    if state.state == "other run":
        allowed = "a folder without checkpoints of other runs"
        fix = f"move {state.path.parent} away"
        yield Problem(_PATH, str(state.path), state.damage[0], allowed, fix)


def _misplaced(plan: Plan, state: CheckpointState) -> Iterator[Problem]:
    saved = state.manifest
    if saved is None:
        return
    if saved.nodes != plan.launch.nodes:
        reason = f"{state.path.name} is a part for {saved.nodes} nodes"
        yield Problem("launcher.nodes", plan.launch.nodes, reason, str(saved.nodes))
    elif saved_shape(saved) != shape_of(plan):
        reason = f"{state.path.name} is of {saved_shape(saved)}, and parts are not distributed anew"
        yield Problem(_KEY, True, reason, str(saved_shape(saved)), saved_shape(saved).overrides)


def _nothing_in_common(plan: Plan, parts: Mapping[int, list[int]]) -> Iterator[Problem]:
    saved = RunProgress.of(RunEvents(folder_of(plan)).read_new()).checkpoints
    if not saved and not any(parts.values()):
        return
    held = sorted({tuple(steps) for steps in parts.values()}, reverse=True)
    told = [
        f"{nodes_text([node for node in sorted(parts) if tuple(parts[node]) == steps])}: "
        f"{', '.join(map(str, steps)) or 'none'}"
        for steps in held
    ]
    reason = f"no checkpoint is intact on every node ({'; '.join(told)})"
    allowed = "the nodes that saved, each with its number and its disk"
    yield Problem(_KEY, True, reason, allowed, "a new hydra.run.dir begins anew")
