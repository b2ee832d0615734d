"""The combinations that are searched, without the micro-batch: where everything lies, what is recomputed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.plans.given import Given
from zpipe.schema.changed import changed
from zpipe.schema.experiment import Experiment
from zpipe.schema.offload import Offload
from zpipe.schema.stage import Stage

OFFLOADS = ("none", "cpu_optimizer", "cpu", "nvme_optimizer", "nvme")
"""Options of the group, the simplest first."""
RATIOS = (0.75, 0.5)
"""Of the states on the host, at stage 3."""
SMALL_SUB_GROUP = 100_000_000
"""Elements: the ratio counts whole sub-groups."""
MICRO_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True, eq=False)
class Shape:
    """One combination, compared by identity. Its experiment still has the micro-batch of before."""

    experiment: Experiment
    offload: str
    """The option of the group, or the one that was set."""

    @property
    def stage(self) -> int:
        return self.experiment.stage.stage

    @property
    def recomputes(self) -> bool:
        return self.experiment.train.gradient_checkpointing

    @property
    def is_compiled(self) -> bool:
        return self.experiment.train.is_compiled

    @property
    def layers(self) -> tuple[bool, bool]:
        """What decides how much the layers keep for the backward pass, the fastest first."""
        return self.recomputes, not self.experiment.has_compiled_layers

    @property
    def option(self) -> str:
        """The option of the group `offload`, without the variant of it."""
        return self.offload.partition(",")[0]

    @property
    def kind(self) -> tuple[int, str, bool, bool]:
        """What runners-up differ in."""
        return self.stage, self.option, self.recomputes, self.is_compiled


def shapes_of(experiment: Experiment, given: Given) -> list[Shape]:
    """All that the automatic groups allow, the simplest first; never none. Rules may refuse some of them."""
    placed = list(_placed(experiment, given)) or list(_as_set(experiment, given))
    return [
        Shape(compiled, name)
        for name, moved in placed
        for recomputes in _choices_of_recomputing(experiment, given)
        for compiled in _compiled(_recomputing(moved, recomputes), given)
    ]


def micro_batches(experiment: Experiment, facts: Facts, given: Given) -> list[int]:
    """Those that are searched, ascending; with a global batch, those that divide it."""
    batch, ranks = experiment.batch, facts.data_parallel_size
    if not experiment.auto.batch or given.has("batch.per_device_train_batch_size"):
        return [facts.micro_batch]
    if batch.sequences is None:
        return list(MICRO_BATCHES)
    each = batch.sequences // ranks
    accumulation = batch.gradient_accumulation_steps
    sizes = range(1, min(each, MICRO_BATCHES[-1]) + 1)
    exact = [size for size in sizes if each % size == 0 and accumulation in (None, each // size)]
    return exact if exact and batch.sequences % ranks == 0 else [facts.micro_batch]


def with_micro_batch(experiment: Experiment, size: int) -> Experiment:
    """The same experiment with another micro-batch; the accumulation follows from a global batch."""
    batch = experiment.batch.model_copy(update={"per_device_train_batch_size": size})
    return experiment.model_copy(update={"batch": batch})


def stages(experiment: Experiment, given: Given) -> list[Stage]:
    """Those that are searched, each with the settings of its option and what the user has set."""
    if not experiment.auto.stage:
        return [experiment.stage]
    numbers = [experiment.stage.stage] if given.has("stage.stage") else range(4)
    # The settings are those of the default stage, whatever number was set.
    stage = experiment.stage.model_copy(update={"stage": Stage().stage})
    default = experiment.model_copy(update={"stage": stage})
    kept = {
        name: getattr(experiment.stage, name) for name in Stage.model_fields if given.has(f"stage.{name}")
    }
    kept.pop("stage", None)
    options = (changed(default, [f"stage={number}"]).stage for number in numbers)
    return [option.model_copy(update=kept) for option in options]


def _placed(experiment: Experiment, given: Given) -> Iterator[tuple[str, Experiment]]:
    offloads = list(_offloads(experiment, given))
    for stage, (name, offload) in product(stages(experiment, given), offloads):
        if not _is_possible(stage.stage, offload):
            continue
        moved = experiment.model_copy(update={"stage": stage, "offload": offload})
        yield name, moved
        if experiment.auto.offload and offload.offload_optimizer.device != "none":
            yield from _variants(name, moved, given)


def _as_set(experiment: Experiment, given: Given) -> Iterator[tuple[str, Experiment]]:
    """What no rule accepts, to be told why."""
    for stage in stages(experiment, given):
        yield "as set", experiment.model_copy(update={"stage": stage})


def _offloads(experiment: Experiment, given: Given) -> Iterator[tuple[str, Offload]]:
    offload = experiment.offload
    if not experiment.auto.offload:
        yield "as set", offload
        return
    for name in OFFLOADS:
        other = changed(experiment, [f"offload={name}"]).offload
        kept = all(
            not given.has(f"offload.{block}.device")
            or getattr(other, block).device == getattr(offload, block).device
            for block in ("offload_optimizer", "offload_param")
        )
        if kept:
            yield name, without_unused(other)


def without_unused(offload: Offload) -> Offload:
    """Without what is meant for candidates that swap or offload something, and refused for others."""
    devices = {offload.offload_optimizer.device, offload.offload_param.device}
    update: dict[str, Any] = {}
    if "nvme" not in devices:
        update["nvme_path"] = None
    if devices == {"none"}:
        update["pin_memory"] = None
    return offload.model_copy(update=update)


def _is_possible(stage: int, offload: Offload) -> bool:
    """A rule says the same for what the user sets."""
    optimizer, parameters = offload.offload_optimizer.device, offload.offload_param.device
    if optimizer == "cpu" and parameters == "none":
        return stage > 0
    return stage == 3 or (optimizer, parameters) == ("none", "none")


def _variants(name: str, experiment: Experiment, given: Given) -> Iterator[tuple[str, Experiment]]:
    """Memory that is not page-locked, which is not rounded up; and a part of the states on the GPU."""
    offload = experiment.offload
    if not given.has("offload.pin_memory") and not given.has("offload.offload_optimizer.pin_memory"):
        unpinned = offload.model_copy(update={"pin_memory": False})
        yield f"{name}, not pinned", experiment.model_copy(update={"offload": unpinned})
    partial = experiment.stage.stage == 3 and name == "cpu_optimizer"
    if not partial or given.has("offload.offload_optimizer.ratio"):
        return
    stage = experiment.stage
    if not given.has("stage.sub_group_size"):
        stage = stage.model_copy(update={"sub_group_size": SMALL_SUB_GROUP})
    for ratio in RATIOS:
        optimizer = offload.offload_optimizer.model_copy(update={"ratio": ratio})
        update: dict[str, Any] = {"offload_optimizer": optimizer}
        moved = {"stage": stage, "offload": offload.model_copy(update=update)}
        yield f"{name}, {ratio:.0%} of the states", experiment.model_copy(update=moved)


def _choices_of_recomputing(experiment: Experiment, given: Given) -> list[bool]:
    own, key = experiment.activation_checkpointing.enabled, "train.gradient_checkpointing"
    if not experiment.auto.activation_checkpointing or own or given.has(key):
        return [experiment.train.gradient_checkpointing]
    return [False, True]


def _compiled(experiment: Experiment, given: Given) -> Iterator[Experiment]:
    """Without and with compiled layers, of which Liger may only compute the loss.

    ZeRO-3's hooks split layers into many graphs, and layers that are recomputed were not measured.
    """
    yield experiment
    train = experiment.train
    recomputes = train.gradient_checkpointing or experiment.activation_checkpointing.enabled
    is_set = train.is_compiled or given.has("train.torch_compile") or given.has("compile.regional")
    if not experiment.auto.compile or is_set or recomputes or experiment.stage.stage == 3:
        return
    kernels = experiment.kernels
    if kernels.liger is True and not given.settles("kernels"):
        kernels = kernels.model_copy(update={"liger": "loss"})
    update: dict[str, Any] = {
        "train": train.model_copy(update={"torch_compile": True}),
        "compile": experiment.compile.model_copy(update={"regional": True}),
        "kernels": kernels,
    }
    yield experiment.model_copy(update=update)


def _recomputing(experiment: Experiment, recomputes: bool) -> Experiment:
    train = experiment.train.model_copy(update={"gradient_checkpointing": recomputes})
    return experiment.model_copy(update={"train": train})
