"""Swap buffers of ZeRO stage 3 with NVMe offload: which values cannot run out, and what they pin.

Read in DeepSpeed 0.19.8 (paths are under deepspeed/runtime), held by real runs. A swappable parameter takes
one buffer when its partition is read (swap_tensor/partitioned_param_swapper.py: swap_in) and gives it back
only when the gathered parameter is partitioned again, so `buffer_count` must cover every parameter that is
live at once. `stage3_max_reuse_distance` keeps them live, and with prefetching the reader takes every free
buffer; `stage3_max_live_parameters` bounds prefetching alone (zero/partitioned_param_coordinator.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

MIN_AIO_BYTES = 1024**2  # swap_tensor/utils.py: partitions below this are never swapped
AIO_ALIGNED_BYTES = 1024  # swap_tensor/utils.py: times aio.intra_op_parallelism, the unit of every transfer


@dataclass(frozen=True)
class SwapSettings:
    """DeepSpeed values that cannot run out of buffers, and the page-locked host memory of one rank."""

    buffer_count: int  # offload_param.buffer_count
    buffer_size: int  # offload_param.buffer_size, elements
    max_in_cpu: int  # offload_param.max_in_cpu, elements; above 0 keeps leading sub-groups off NVMe
    stage3_max_reuse_distance: int  # elements
    stage3_prefetch_bucket_size: int  # elements
    stage3_param_persistence_threshold: int  # elements; the largest safe value, smaller ones are safe too
    sub_group_size: int  # elements; 1 makes each parameter a sub-group
    optimizer_buffer_count: int  # offload_optimizer.buffer_count
    parameter_pinned_bytes: int  # the buffers above and the one that writes a sub-group back after the step
    optimizer_pinned_bytes: int  # optimizer_buffer_count x the largest sub-group
    gradient_pinned_bytes: int  # all gradient partitions stay in host memory (zero/stage3.py), NVMe or not

    @property
    def pinned_bytes(self) -> int:
        return self.parameter_pinned_bytes + self.optimizer_pinned_bytes + self.gradient_pinned_bytes


def partition_numel(numel: int, world_size: int) -> int:
    """Elements of one rank's partition (zero/partition_parameters.py: _partition_param)."""
    return -(-numel // world_size)


def aligned_numel(numel: int, element_bytes: int, intra_op_parallelism: int = 1) -> int:
    """Elements after padding to the unit of transfer (swap_tensor/*: _io_aligned_numel)."""
    unit = AIO_ALIGNED_BYTES * intra_op_parallelism // element_bytes
    return -(-numel // unit) * unit


def is_swappable(numel: int, element_bytes: int, aio_block_size: int = MIN_AIO_BYTES) -> bool:
    """Whether a partition of `numel` elements goes to NVMe; smaller ones stay in host memory without a buffer
    (swap_tensor/partitioned_param_swapper.py: swappable_tensor)."""
    return numel * element_bytes >= max(MIN_AIO_BYTES, aio_block_size)


def minimum_buffer_size(parameter_numels: Sequence[int], world_size: int) -> int:
    """Smallest offload_param.buffer_size in elements (partitioned_param_swapper.py: get_buffer)."""
    return max((partition_numel(numel, world_size) for numel in parameter_numels), default=1)


def minimum_buffer_count(
    swappable: int,
    *,
    max_reuse_distance: int,
    prefetch_bucket_size: int,
    gathered_together: int = 4,
    per_module: int = 1,
) -> int:
    """Smallest offload_param.buffer_count that cannot run out, for `swappable` parameters.

    With reuse or prefetching every one may hold a buffer. Without: transformers' initialize_weights_zero3
    gathers a module and its direct children (`gathered_together`: q, k, v, o), and a recomputing backward
    holds one module, the one it recomputes, and one parameter that is used outside its own module
    (`per_module`: own swappable parameters of one module).
    """
    if max_reuse_distance > 0 or prefetch_bucket_size > 0:
        return max(1, swappable)
    return max(1, min(swappable, max(gathered_together, 2 * per_module + 1)))


def maximum_persistence_threshold(
    world_size: int, element_bytes: int, aio_block_size: int = MIN_AIO_BYTES
) -> int:
    """Largest threshold, in elements, under which no persistent parameter is swappable. The step gathers all
    persistent parameters in one call (zero/stage3.py: _post_step); each such one would need a buffer."""
    return world_size * (-(-max(MIN_AIO_BYTES, aio_block_size) // element_bytes) - 1)


def minimum_optimizer_buffer_count(
    states: int = 2, *, pipeline_read: bool = False, pipeline_write: bool = False
) -> int:
    """Smallest offload_optimizer.buffer_count: weights, gradient and `states` tensors of one sub-group (Adam,
    LAMB 2; Lion, Adagrad, SGD with momentum 1), again for the one read ahead and for the one still being
    written (swap_tensor/partitioned_optimizer_swapper.py, pipelined_optimizer_swapper.py)."""
    return (states + 2) * (1 + pipeline_read + pipeline_write)


def sub_groups(partition_numels: Sequence[int], sub_group_size: int) -> list[list[int]]:
    """One optimizer group's partitions, in its order, as upstream cuts them
    (zero/stage3.py: _create_fp16_sub_groups). The largest sum is what one optimizer buffer holds."""
    if sub_group_size >= sum(partition_numels):
        return [list(partition_numels)] if partition_numels else []
    groups: list[list[int]] = [[]]
    for numel in partition_numels:
        if sum(groups[-1]) >= sub_group_size:
            groups.append([])
        groups[-1].append(numel)
    return [group for group in groups if group]


def sub_group_is_safe(group: Sequence[int], element_bytes: int, intra_op_parallelism: int = 1) -> bool:
    """Whether every swapped partition of a sub-group starts at a whole unit of transfer. Where one does not,
    its gradient is read to a misaligned address and comes out wrong, unnoticed (partitioned_optimizer_swapper
    .py: _swap_in_pinned_gradients), and the buffer that writes the sub-group back may be too small."""
    starts = [0, *accumulate(group)]
    return all(
        start == aligned_numel(start, element_bytes, intra_op_parallelism) or not is_swappable(numel, 4)
        for start, numel in zip(starts, group, strict=False)
    )


def elements_kept_in_memory(groups: Sequence[Sequence[int]], max_in_cpu: int) -> int:
    """Elements of the first optimizer group (its sub-groups) that max_in_cpu keeps in host memory, unnoticed:
    upstream's default is 1e9 (zero/stage3.py: _create_fp16_partitions_with_defragmentation)."""
    kept = offset = 0
    for group in groups:
        offset += sum(group)
        kept += sum(group) if offset <= max_in_cpu else 0
    return kept


def swap_settings(
    parameter_numels: Sequence[int],
    world_size: int,
    element_bytes: int,
    *,
    gathered_together: int = 4,
    per_module: int = 1,
    optimizer_states: int = 2,
    master_bytes: int = 4,
    pipeline_read: bool = False,
    pipeline_write: bool = False,
    aio_block_size: int = MIN_AIO_BYTES,
    intra_op_parallelism: int = 1,
) -> SwapSettings:
    """Values that cannot run out for these parameters (a tied one listed once), with the least pinned memory.

    No reuse and no prefetching: the fewest live parameters. One parameter a sub-group: the smallest optimizer
    buffers, and every gradient starts aligned.
    """
    partitions = [partition_numel(numel, world_size) for numel in parameter_numels]
    swappable = sum(is_swappable(numel, element_bytes, aio_block_size) for numel in partitions)
    size = minimum_buffer_size(parameter_numels, world_size)
    count = minimum_buffer_count(
        swappable,
        max_reuse_distance=0,
        prefetch_bucket_size=0,
        gathered_together=gathered_together,
        per_module=per_module,
    )
    optimizer_count = minimum_optimizer_buffer_count(
        optimizer_states, pipeline_read=pipeline_read, pipeline_write=pipeline_write
    )
    parameter_buffer = aligned_numel(size, element_bytes, intra_op_parallelism) * element_bytes
    optimizer_buffer = aligned_numel(size, master_bytes, intra_op_parallelism) * master_bytes
    return SwapSettings(
        buffer_count=count,
        buffer_size=size,
        max_in_cpu=0,
        stage3_max_reuse_distance=0,
        stage3_prefetch_bucket_size=0,
        stage3_param_persistence_threshold=maximum_persistence_threshold(
            world_size, element_bytes, aio_block_size
        ),
        sub_group_size=1,
        optimizer_buffer_count=optimizer_count,
        parameter_pinned_bytes=(count + 1) * parameter_buffer,
        optimizer_pinned_bytes=optimizer_count * optimizer_buffer,
        gradient_pinned_bytes=sum(partitions) * element_bytes,
    )
