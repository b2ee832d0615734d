"""NVMe offload: settings with which DeepSpeed would run out of swap buffers or train incorrectly."""

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
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment

MEANINGS = {
    "buffer_count": "the number of parameters in use at the same time",
    "buffer_size": "the number of elements of the largest parameter",
}


def swap_buffers_need_parameter_shapes(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Swap buffers are sized by the parameters' shapes, which are unknown before the model is downloaded."""
    block = experiment.offload.offload_param
    if block.device != "nvme" or facts.parameter_numels is not None:
        return
    for name, meaning in MEANINGS.items():
        if getattr(block, name) is None:
            yield Problem(
                f"offload.offload_param.{name}",
                None,
                "cannot be computed before the model is downloaded, because its parameter shapes are unknown",
                meaning,
                either("model.name_or_path=path/to/downloaded/model", "offload=nvme_optimizer"),
            )


def parameter_buffers_suffice(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed raises "Not enough buffers … for swapping …" or "More elements … than buffer size …"."""
    block, stage = experiment.offload.offload_param, experiment.stage
    size, count = least_buffer_size(facts), least_buffer_count(experiment, facts)
    if block.device != "nvme" or size is None or count is None:
        return
    if block.buffer_size is not None and block.buffer_size < size:
        yield _too_small(
            "offload_param.buffer_size", block.buffer_size, size, "the largest parameter partition"
        )
    if block.buffer_count is not None and block.buffer_count < count:
        reuse = f"stage.stage3_max_reuse_distance={stage.stage3_max_reuse_distance}"
        needed_by = f"the parameters in use at the same time with {reuse}"
        yield _too_small("offload_param.buffer_count", block.buffer_count, count, needed_by)


def nvme_parameters_are_not_prefetched(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Prefetching uses every free buffer, and can read a parameter twice at the same time."""
    prefetch = experiment.stage.stage3_prefetch_bucket_size
    swapped = experiment.offload.offload_param.device == "nvme" and experiment.stage.stage == 3
    if swapped and prefetch not in (0, "auto"):
        yield Problem(
            "stage.stage3_prefetch_bucket_size",
            prefetch,
            "with parameters on NVMe, prefetching can exhaust any number of swap buffers",
            "0 or auto with parameters on NVMe",
            either("stage.stage3_prefetch_bucket_size=0"),
        )


def fast_init_needs_aligned_partitions(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """If a partition ends inside a transfer unit, fast_init silently loads wrong weights."""
    block = experiment.offload.offload_optimizer
    if block.device == "nvme" and block.fast_init and not partitions_are_aligned(experiment, facts):
        yield Problem(
            "offload.offload_optimizer.fast_init",
            True,
            "DeepSpeed would load wrong weights, because not all partitions of this model are multiples of "
            "1 KiB x offload.aio.intra_op_parallelism",
            "false for this model and world size",
            either("offload.offload_optimizer.fast_init=false"),
        )


def checkpointing_on_a_single_cpu_process_is_reentrant(
    experiment: Experiment, facts: Facts
) -> Iterator[Problem]:
    """On a single CPU rank a gathered parameter is the swap buffer itself, which recomputation overwrites."""
    train, swapped = experiment.train, experiment.offload.offload_param.device == "nvme"
    alone_on_a_cpu = facts.device == "cpu" and facts.world_size == 1
    reentrant = train.gradient_checkpointing_kwargs.get("use_reentrant", False)
    if swapped and alone_on_a_cpu and train.gradient_checkpointing and not reentrant:
        yield Problem(
            "train.gradient_checkpointing",
            True,
            "DeepSpeed computes wrong gradients with parameters on NVMe and a single process on a CPU",
            "false, or true with reentrant checkpointing or on a GPU",
            either(
                "train.gradient_checkpointing_kwargs.use_reentrant=true", "train.gradient_checkpointing=false"
            ),
        )


def optimizer_buffers_suffice(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed raises an AssertionError without a message (partitioned_optimizer_swapper.py)."""
    block = experiment.offload.offload_optimizer
    if block.device != "nvme" or block.buffer_count is None:
        return
    least = least_optimizer_buffer_count(experiment)
    if block.buffer_count < least:
        yield _too_small(
            "offload_optimizer.buffer_count",
            block.buffer_count,
            least,
            "the Adam states of the sub-groups in flight",
        )


def swapped_sub_groups_hold_one_parameter(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Gradients of a larger sub-group can be read to misaligned addresses, and updates are silently wrong."""
    size = experiment.stage.sub_group_size
    swapped = experiment.offload.offload_optimizer.device == "nvme" and experiment.stage.stage == 3
    if swapped and size not in (1, "auto"):
        yield Problem(
            "stage.sub_group_size",
            size,
            "with several parameters in a sub-group, DeepSpeed can read gradients to the wrong address, "
            "which silently gives wrong updates",
            "1 or auto with optimizer states on NVMe",
            either("stage.sub_group_size=1"),
        )


def persistent_parameters_are_not_swapped(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The step gathers all persistent parameters at once, and each swapped one would need a buffer."""
    threshold = experiment.stage.stage3_param_persistence_threshold
    if experiment.offload.offload_param.device != "nvme" or not isinstance(threshold, int):
        return
    most = greatest_persistence_threshold(experiment, facts)
    if threshold > most:
        yield Problem(
            "stage.stage3_param_persistence_threshold",
            threshold,
            "persistent parameters of this size would be swapped, but the step gathers all of them at once",
            f"up to {most} with parameters on NVMe",
            either(f"stage.stage3_param_persistence_threshold={most}"),
        )


def _too_small(key: str, value: int, least: int, needed_by: str) -> Problem:
    name, reason = f"offload.{key}", f"too small for {needed_by}"
    return Problem(name, value, reason, f"{least} or more", either(f"{name}={least}", f"{name}=null"))


def warn_about_parameters_kept_in_memory(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """With max_in_cpu the first sub-groups are never swapped."""
    kept = experiment.offload.offload_param.max_in_cpu
    if experiment.offload.offload_param.device == "nvme" and kept:
        yield Notice(
            level="warning",
            key="offload.offload_param.max_in_cpu",
            text=f"up to {kept} elements stay in host memory and are never swapped",
        )


def warn_about_nothing_to_swap(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """DeepSpeed silently keeps partitions below 1 MiB in memory."""
    if experiment.offload.offload_param.device == "nvme" and swappable_parameters(experiment, facts) == 0:
        yield Notice(
            level="warning",
            key="offload.offload_param.device",
            text="no parameter partition reaches 1 MiB, so DeepSpeed keeps all parameters in host memory",
        )


def note_pinned_memory(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Page-locked memory cannot be paged out, so the user should know its size."""
    pinned = pinned_bytes(experiment, facts)
    if (
        "nvme" in (experiment.offload.offload_param.device, experiment.offload.offload_optimizer.device)
        and pinned
    ):
        text = f"swapping pins {pinned / 1024**3:.2f} GiB of host memory in each process"
        total, available = pinned * facts.nproc_per_node, facts.hardware.memory
        if total <= available:
            yield Notice(level="info", key="offload", text=text)
            return
        there = f"{available / 1024**3:.2f} GiB"
        reason = f"{text}, {total / 1024**3:.2f} GiB in all, and this machine has {there}"
        yield Notice(level="warning", key="offload", text=reason)


NOTICES = (warn_about_parameters_kept_in_memory, warn_about_nothing_to_swap, note_pinned_memory)
ERRORS = (
    swap_buffers_need_parameter_shapes,
    parameter_buffers_suffice,
    nvme_parameters_are_not_prefetched,
    fast_init_needs_aligned_partitions,
    checkpointing_on_a_single_cpu_process_is_reentrant,
    optimizer_buffers_suffice,
    swapped_sub_groups_hold_one_parameter,
    persistent_parameters_are_not_swapped,
)
