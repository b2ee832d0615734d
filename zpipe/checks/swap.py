"""NVMe offload: counts and sizes with which DeepSpeed would run out of buffers, or train wrongly."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.facts.swapping import (
    greatest_persistence_threshold,
    least_buffer_count,
    least_buffer_size,
    least_optimizer_buffer_count,
)
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment


def model_can_be_looked_into(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Buffer sizes follow from the parameters' shapes, which a model that isn't here does not show."""
    block = experiment.offload.offload_param
    if block.device != "nvme" or facts.parameter_numels is not None:
        return
    for name in ("buffer_count", "buffer_size"):
        if getattr(block, name) is None:
            yield Problem(
                f"offload.offload_param.{name}",
                None,
                "cannot be worked out: the model's parameters cannot be read before it is downloaded",
                "buffer_size: elements of the largest parameter; buffer_count: parameters live at once",
                "model.name_or_path=FOLDER of the downloaded model",
            )


def parameter_buffers_suffice(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """"Not enough buffers 0 for swapping 1", and "More elements … than buffer size …"."""
    block, stage = experiment.offload.offload_param, experiment.stage
    size, count = least_buffer_size(facts), least_buffer_count(experiment, facts)
    if block.device != "nvme" or size is None or count is None:
        return
    if block.buffer_size is not None and block.buffer_size < size:
        yield _too_small("offload_param.buffer_size", block.buffer_size, size, "the largest parameter partition")
    if block.buffer_count is not None and block.buffer_count < count:
        live = (
            f"stage.stage3_max_reuse_distance={stage.stage3_max_reuse_distance} and "
            f"stage.stage3_prefetch_bucket_size={stage.stage3_prefetch_bucket_size}"
        )
        why = f"the parameters that are live at once under {live}"
        yield _too_small("offload_param.buffer_count", block.buffer_count, count, why)


def optimizer_buffers_suffice(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A bare AssertionError in partitioned_optimizer_swapper.py."""
    block = experiment.offload.offload_optimizer
    if block.device != "nvme" or block.buffer_count is None:
        return
    least = least_optimizer_buffer_count(experiment)
    if block.buffer_count < least:
        yield _too_small(
            "offload_optimizer.buffer_count", block.buffer_count, least, "Adam's states of a sub-group in flight"
        )


def sub_groups_hold_one_parameter(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Gradients of a larger sub-group can be read to misaligned addresses: wrong updates, no message."""
    size = experiment.stage.sub_group_size
    swapped = experiment.offload.offload_optimizer.device == "nvme" and experiment.stage.stage == 3
    if swapped and size not in (1, "auto"):
        yield Problem(
            "stage.sub_group_size",
            size,
            "with several parameters in a sub-group DeepSpeed can read swapped gradients to the wrong place, "
            "and trains on wrongly without a message",
            "1 with optimizer states on nvme: each parameter is updated alone",
            "stage.sub_group_size=1",
        )


def persistent_parameters_stay_out_of_swap(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The step gathers all persistent parameters at once; each swapped one would need a buffer."""
    threshold = experiment.stage.stage3_param_persistence_threshold
    if experiment.offload.offload_param.device != "nvme" or not isinstance(threshold, int):
        return
    most = greatest_persistence_threshold(experiment, facts)
    if threshold > most:
        yield Problem(
            "stage.stage3_param_persistence_threshold",
            threshold,
            "persistent parameters of this size would be swapped, and the step gathers all of them at once",
            f"up to {most} under nvme offload",
            f"stage.stage3_param_persistence_threshold={most}",
        )


def _too_small(key: str, value: int, least: int, why: str) -> Problem:
    name = f"offload.{key}"
    return Problem(name, value, f"too small for {why}", f"{least} or more", f"{name}={least}, or {name}=null")


ERRORS = (
    model_can_be_looked_into,
    parameter_buffers_suffice,
    optimizer_buffers_suffice,
    sub_groups_hold_one_parameter,
    persistent_parameters_stay_out_of_swap,
)
