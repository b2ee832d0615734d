"""Changes that reduce the memory of a plan, in the order in which they are tried."""

from collections.abc import Callable, Iterator
from itertools import combinations, islice, product

from zpipe.facts.facts import Facts
from zpipe.machine.hardware import Nvme
from zpipe.schema.batch import Batch
from zpipe.schema.experiment import Experiment

Overrides = tuple[str, ...]
Rungs = list[Overrides]
"""Changes of one kind, each of which saves more than the one before."""


def nearest_plans(
    experiment: Experiment, facts: Facts, fits: Callable[[Overrides], bool]
) -> Iterator[Overrides]:
    """Changes that fit: the first of each kind, then for each two kinds the first that need each other."""
    kinds = [
        smaller_batches(experiment.batch, facts.micro_batch, facts.accumulation),
        _recomputed(experiment),
        _higher_stages(experiment, facts),
        _offloads(experiment, facts),
    ]
    alone = [rung for rungs in kinds for rung in islice(filter(fits, rungs), 1)]
    yield from alone
    insufficient = [[rung for rung in rungs if not fits(rung)] for rungs in kinds]
    found = {frozenset(each) for each in alone}
    for two in combinations(insufficient, 2):
        for both in islice(filter(fits, _pairs(*two)), 1):
            if frozenset(both) not in found:
                found.add(frozenset(both))
                yield both


def smaller_batches(batch: Batch, micro: int, accumulation: int) -> Rungs:
    """Smaller micro-batches with more accumulation, so that the sequences of a step stay the same."""
    return [
        _batch_overrides(batch, size, accumulation * micro // size)
        for size in range(micro - 1, 0, -1)
        if micro % size == 0
    ]


def _batch_overrides(batch: Batch, micro: int, accumulation: int) -> Overrides:
    smaller = f"batch.per_device_train_batch_size={micro}"
    # With a global batch set, the accumulation follows from it unless it is set too.
    if batch.sequences is None or batch.gradient_accumulation_steps is not None:
        return smaller, f"batch.gradient_accumulation_steps={accumulation}"
    return (smaller,)


def _recomputed(experiment: Experiment) -> Rungs:
    has_own = experiment.activation_checkpointing.enabled
    return (
        [] if experiment.train.gradient_checkpointing or has_own else [("train.gradient_checkpointing=true",)]
    )


def _higher_stages(experiment: Experiment, facts: Facts) -> Rungs:
    if facts.world_size == 1:
        return []
    return [(f"stage={stage}",) for stage in range(experiment.stage.stage + 1, 4)]


def _offloads(experiment: Experiment, facts: Facts) -> Rungs:
    """From the one that costs least speed to none, which needs no host memory."""
    optimizer = ("offload=cpu_optimizer",) if experiment.stage.stage else ("stage=2", "offload=cpu_optimizer")
    names = ("cpu_optimizer", "cpu", *(("nvme_optimizer", "nvme") if _has_disk(experiment, facts) else ()))
    at_stage_3 = [("stage=3", f"offload={name}") for name in names]
    return [optimizer, *at_stage_3, ("offload=none",)]


def _has_disk(experiment: Experiment, facts: Facts) -> bool:
    """Whether the machine is known to have a disk for swap files: this one has, another where described."""
    hardware = facts.hardware
    is_known = hardware.free_disk is not None or hardware.nvme != Nvme()
    return is_known or experiment.offload.nvme_path is not None


def _pairs(first: Rungs, second: Rungs) -> Iterator[Overrides]:
    for one, other in product(first, second):
        both = tuple(dict.fromkeys((*one, *other)))
        if len({override.partition("=")[0] for override in both}) == len(both):
            yield both
