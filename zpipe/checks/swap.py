"""NVMe offload: counts and sizes with which DeepSpeed would run out of buffers, or train wrongly."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.memory.needs import (
    greatest_persistence_threshold,
    least_buffer_count,
    least_buffer_size,
    least_optimizer_buffer_count,
    partitions_are_aligned,
    pinned_bytes,
    swappable_parameters,
)
from zpipe.plan.plan import Notice
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
    """ "Not enough buffers 0 for swapping 1", and "More elements … than buffer size …"."""
    block, stage = experiment.offload.offload_param, experiment.stage
    size, count = least_buffer_size(facts), least_buffer_count(experiment, facts)
    if block.device != "nvme" or size is None or count is None:
        return
    if block.buffer_size is not None and block.buffer_size < size:
        yield _too_small(
            "offload_param.buffer_size", block.buffer_size, size, "the largest parameter partition"
        )
    if block.buffer_count is not None and block.buffer_count < count:
        why = f"parameters live at once: stage.stage3_max_reuse_distance={stage.stage3_max_reuse_distance}"
        yield _too_small("offload_param.buffer_count", block.buffer_count, count, why)


def nothing_is_fetched_ahead(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Prefetching takes every free buffer, and can read a parameter twice at once."""
    prefetch = experiment.stage.stage3_prefetch_bucket_size
    swapped = experiment.offload.offload_param.device == "nvme" and experiment.stage.stage == 3
    if swapped and prefetch not in (0, "auto"):
        yield Problem(
            "stage.stage3_prefetch_bucket_size",
            prefetch,
            "with parameters on nvme no number of buffers is enough for prefetching",
            "0 or auto with parameters on nvme",
            "stage.stage3_prefetch_bucket_size=0",
        )


def fast_init_reads_whole_units(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """On partitions that end inside a unit of transfer, fast_init loads wrong weights without a message."""
    block = experiment.offload.offload_optimizer
    if block.device == "nvme" and block.fast_init and not partitions_are_aligned(experiment, facts):
        yield Problem(
            "offload.offload_optimizer.fast_init",
            True,
            "partitions of this model do not fill blocks of 1 KiB for each of aio.intra_op_parallelism, and "
            "DeepSpeed would load wrong weights",
            "false for this model and world size",
            "offload.offload_optimizer.fast_init=false",
        )


def recomputation_on_a_cpu_is_reentrant(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """On one CPU rank a gathered parameter is the swap buffer itself, which recomputation overwrites."""
    train, swapped = experiment.train, experiment.offload.offload_param.device == "nvme"
    alone_on_a_cpu = facts.device == "cpu" and facts.world_size == 1
    reentrant = train.gradient_checkpointing_kwargs.get("use_reentrant", False)
    if swapped and alone_on_a_cpu and train.gradient_checkpointing and not reentrant:
        yield Problem(
            "train.gradient_checkpointing",
            True,
            "with parameters on nvme and one process on a CPU, DeepSpeed computes wrong gradients",
            "false, or reentrant checkpointing, or a GPU",
            "train.gradient_checkpointing_kwargs.use_reentrant=true, or train.gradient_checkpointing=false",
        )


def optimizer_buffers_suffice(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A bare AssertionError in partitioned_optimizer_swapper.py."""
    block = experiment.offload.offload_optimizer
    if block.device != "nvme" or block.buffer_count is None:
        return
    least = least_optimizer_buffer_count(experiment)
    if block.buffer_count < least:
        yield _too_small(
            "offload_optimizer.buffer_count",
            block.buffer_count,
            least,
            "Adam's states of a sub-group in flight",
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


def warn_of_parameters_kept_in_memory(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """max_in_cpu keeps the first sub-groups off the files for good."""
    kept = experiment.offload.offload_param.max_in_cpu
    if experiment.offload.offload_param.device == "nvme" and kept:
        yield Notice(
            level="warning",
            key="offload.offload_param.max_in_cpu",
            text=f"up to {kept} elements stay in host memory and never go to files",
        )


def warn_of_nothing_to_swap(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """DeepSpeed leaves partitions below 1 MiB in memory, without a word."""
    if experiment.offload.offload_param.device == "nvme" and swappable_parameters(experiment, facts) == 0:
        yield Notice(
            level="warning",
            key="offload.offload_param.device",
            text="no parameter's partition reaches 1 MiB, so DeepSpeed keeps all parameters in host memory",
        )


def say_what_swapping_pins(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Page-locked memory cannot be paged out: the user should know how much it is."""
    pinned = pinned_bytes(experiment, facts)
    if (
        "nvme" in (experiment.offload.offload_param.device, experiment.offload.offload_optimizer.device)
        and pinned
    ):
        text = f"swapping pins {pinned / 1024**3:.2f} GiB of host memory in each process"
        yield Notice(level="info", key="offload", text=text)


NOTICES = (warn_of_parameters_kept_in_memory, warn_of_nothing_to_swap, say_what_swapping_pins)
ERRORS = (
    model_can_be_looked_into,
    parameter_buffers_suffice,
    nothing_is_fetched_ahead,
    fast_init_reads_whole_units,
    recomputation_on_a_cpu_is_reentrant,
    optimizer_buffers_suffice,
    sub_groups_hold_one_parameter,
    persistent_parameters_stay_out_of_swap,
)
