"""How many checkpoints a run writes, and how many of them are on the disk at the same time."""

import math

from zpipe.facts.facts import Facts
from zpipe.memory.checkpoint_size import checkpoint_bytes
from zpipe.plans.plan import CheckpointSpace
from zpipe.schema.experiment import Experiment


def checkpoint_space(experiment: Experiment, facts: Facts) -> CheckpointSpace | None:
    """None if the run saves no checkpoints."""
    if experiment.checkpoint.save_strategy == "no":
        return None
    saves = _saves(experiment, facts)
    return CheckpointSpace(
        bytes=checkpoint_bytes(experiment, facts),
        saves=saves,
        at_once=_at_once(experiment, saves),
        room=facts.checkpoint_room,
    )


def _saves(experiment: Experiment, facts: Facts) -> int | None:
    """transformers saves every save_steps or at the end of each epoch, and at the last step."""
    checkpoint, epochs = experiment.checkpoint, experiment.train.num_train_epochs
    if checkpoint.every_minutes is not None:
        return None
    if checkpoint.save_strategy == "steps":
        return None if facts.total_steps is None else math.ceil(facts.total_steps / checkpoint.save_steps)
    return math.ceil(epochs) if facts.total_steps is None else None


def _at_once(experiment: Experiment, saves: int | None) -> int | None:
    """The kept ones, the best one, and the one that is being written."""
    limit = experiment.checkpoint.save_total_limit
    if limit is None:
        return saves
    most = limit + 1 + experiment.train.load_best_model_at_end
    return most if saves is None else min(saves, most)
