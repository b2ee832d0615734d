"""Checkpoints that the disk has no room for."""

from collections.abc import Iterator

from humanize import naturalsize

from zpipe.facts.facts import Facts
from zpipe.memory.checkpoint_space import checkpoint_space
from zpipe.plans.plan import CheckpointSpace, Notice
from zpipe.problems import Fix, Problem, either
from zpipe.schema.experiment import Experiment

_CERTAIN = 0.95
"""Share of the predicted size that a checkpoint takes at least."""
_KEPT = 2
"""The newest checkpoint stays until the next one is complete."""


def checkpoints_fit_on_the_disk(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The run would end with a full disk at its first or second checkpoint."""
    space = checkpoint_space(experiment, facts)
    if space is None or space.bytes is None or space.room is None:
        return
    least = min(_KEPT, space.saves or _KEPT)
    if _CERTAIN * least * space.bytes > space.room:
        one, room = _size(space.bytes), _size(space.room)
        needed = "there is only one" if least == 1 else f"{least} must fit, the last one and the next"
        yield Problem(
            "checkpoint.save_strategy",
            experiment.checkpoint.save_strategy,
            f"a checkpoint takes {one}; {needed}, and the disk of the run folder has room for {room}",
            f"{_size(least * space.bytes)} of room: free some, or choose a folder with hydra.run.dir",
            _smaller(experiment, facts),
        )


def warn_about_a_disk_that_fills_up(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Without a limit, no checkpoint is removed."""
    space = checkpoint_space(experiment, facts)
    if space is None or not _exceeds(space):
        return
    count, total, room = (
        space.at_once,
        _size((space.at_once or 0) * (space.bytes or 0)),
        _size(space.room or 0),
    )
    limit = experiment.checkpoint.save_total_limit
    key = "checkpoint.save_total_limit"
    text = f"{count} checkpoints take {total}, and the disk has room for {room}"
    if limit is None:
        yield Notice(
            level="warning", key=key, text=f"{text}: the run would fill it; {key}={_KEPT} keeps {_KEPT}"
        )
    else:
        text = f"{text}: older ones will be removed before the next is written"
        yield Notice(level="info", key=key, text=text)


def _exceeds(space: CheckpointSpace) -> bool:
    if space.bytes is None or space.room is None or space.at_once is None:
        return False
    return space.bytes * space.at_once > space.room


def _smaller(experiment: Experiment, facts: Facts) -> Fix:
    """Settings with which the run fits; another folder if there are none."""
    needs_states = experiment.checkpoint.stop_after is not None
    options = {"save_only_model": True} if not needs_states else {}
    checkpoint = experiment.checkpoint.model_copy(update=options)
    space = checkpoint_space(experiment.model_copy(update={"checkpoint": checkpoint}), facts)
    fits = space is not None and _KEPT * (space.bytes or 0) <= (space.room or 0)
    fixes = ["checkpoint.save_only_model=true"] if fits and options else []
    if not needs_states and not experiment.train.load_best_model_at_end:
        fixes.append("checkpoint=none")
    return either(*(fixes or ["hydra.run.dir=/folder/on/a/larger/disk"]))


def _size(count: int) -> str:
    return naturalsize(count, binary=True)


ERRORS = (checkpoints_fit_on_the_disk,)
NOTICES = (warn_about_a_disk_that_fills_up,)
