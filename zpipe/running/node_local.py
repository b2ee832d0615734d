"""Checkpoints of which each node has its own part: a run goes on from the newest one that all nodes have."""

from collections.abc import Callable, Iterator, Mapping

from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.home import checkpoint_home
from zpipe.checkpoints.rotation import tidy
from zpipe.checkpoints.shape import saved_shape, shape_of
from zpipe.checkpoints.state import CheckpointState, inspect
from zpipe.hostlist import nodes_text
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, refuse_if_any
from zpipe.runfolder.attempt_start import first_start, read_start, write_start
from zpipe.runfolder.folder import Attempt, checkpoint_name
from zpipe.runfolder.plan_file import folder_of

Say = Callable[[str], None]
_MOST = 2
"""Steps that a node offers: a run that is killed leaves nodes that differ by one checkpoint."""


def intact_steps(plan: Plan, say: Say) -> list[int]:
    """The newest steps of which this node has its part intact, newest first. Reads these files.

    Raises Refusal for checkpoints of another run.
    """
    home, start = checkpoint_home(plan), first_start(folder_of(plan))
    tidy(home)
    steps: list[int] = []
    for folder in checkpoints_in(home):
        state = inspect(folder, start.run_id if start is not None else "")
        refuse_if_any(_of_another_run(state))
        damage = [*state.damage, *_misplaced(plan, state)]
        if damage:
            say(f"warning: {folder.name} on this node is passed over: {'; '.join(damage[:3])}")
        else:
            steps.append(state.step)
        if len(steps) == _MOST:
            break
    return steps


def agree(plan: Plan, attempt: Attempt, parts: Mapping[int, list[int]], say: Say) -> None:
    """Writes into attempt.json what the attempt goes on from; `parts` are the intact steps of each node.

    Raises Refusal if there are checkpoints, and none that all nodes have.
    """
    common = set.intersection(*map(set, parts.values()))
    if not common:
        refuse_if_any(_nothing_in_common(parts))
        return
    step = max(common)
    update = {"checkpoint": str(checkpoint_home(plan) / checkpoint_name(step)), "step": step}
    write_start(attempt, read_start(attempt).model_copy(update=update))
    say(f"attempt {attempt.number} goes on from step {step}, of which every node has its part")


def _of_another_run(state: CheckpointState) -> Iterator[Problem]:
    if state.state == "other run":
        allowed = "a folder without checkpoints of other runs"
        fix = f"move {state.path.parent} away"
        yield Problem("checkpoint.node_local_path", str(state.path), state.damage[0], allowed, fix)


def _misplaced(plan: Plan, state: CheckpointState) -> Iterator[str]:
    if state.manifest is None:
        return
    saved, here = state.manifest, plan.experiment.launcher.node_rank
    if (saved.node, saved.nodes) != (here, plan.launch.nodes):
        yield f"it is the part of node {saved.node} of {saved.nodes}, and this is node {here}"
    if saved_shape(saved) != shape_of(plan):
        yield f"it is of {saved_shape(saved)}, and parts on several nodes are not distributed anew"


def _nothing_in_common(parts: Mapping[int, list[int]]) -> Iterator[Problem]:
    if not any(parts.values()):
        return
    held = sorted({tuple(steps) for steps in parts.values()}, reverse=True)
    told = [
        f"{nodes_text([node for node in sorted(parts) if tuple(parts[node]) == steps])}: "
        f"{', '.join(map(str, steps)) or 'none'}"
        for steps in held
    ]
    reason = f"no checkpoint is intact on every node ({'; '.join(told)})"
    allowed = "the nodes that saved, each with its number and its disk"
    yield Problem("checkpoint.node_local", True, reason, allowed, "a new hydra.run.dir begins anew")
