"""Swap buffers of ZeRO stage 3 with NVMe offload: which values cannot run out, and what they pin.

Read in DeepSpeed 0.19.8 (paths are under deepspeed/runtime), held by real runs. A swappable parameter takes
one buffer when its partition is read (swap_tensor/partitioned_param_swapper.py: swap_in) and gives it back
only when the gathered parameter is partitioned again, so `buffer_count` must cover every parameter that is
live at once. `stage3_max_reuse_distance` keeps them live, prefetching takes every free buffer, and
`stage3_max_live_parameters` bounds prefetching alone (zero/partitioned_param_coordinator.py).
"""

from collections.abc import Sequence

MIN_AIO_BYTES = 1024**2  # swap_tensor/utils.py: partitions below this are never swapped
AIO_ALIGNED_BYTES = 1024  # swap_tensor/utils.py: times aio.intra_op_parallelism, the unit of every transfer


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
    swappable: int, *, max_reuse_distance: int = 0, gathered_together: int = 4, per_module: int = 1
) -> int:
    """Smallest offload_param.buffer_count that cannot run out for `swappable` parameters, given
    stage3_prefetch_bucket_size 0: with prefetching no count is enough, a parameter can be read twice at once
    (partitioned_param_coordinator.py: __prefetch_nvme_param_partitions).

    With reuse every parameter may hold a buffer. Without: transformers' initialize_weights_zero3 gathers a
    module and its direct children (`gathered_together`: q, k, v, o), and a recomputing backward holds one
    module, the one it recomputes, and one parameter that is used outside its own module (`per_module`: own
    swappable parameters of one module).
    """
    needed = swappable if max_reuse_distance > 0 else max(gathered_together, 2 * per_module + 1)
    return max(1, min(swappable, needed))


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
