"""Swap buffers of ZeRO stage 3 with NVMe offload: the smallest sizes and counts that cannot be exhausted.

Based on DeepSpeed 0.19.8 (paths are relative to deepspeed/runtime) and verified by real runs. A swappable
parameter occupies one buffer from reading its partition (swap_tensor/partitioned_param_swapper.py: swap_in)
until the gathered parameter is partitioned again, so `buffer_count` must cover all live parameters.
`stage3_max_reuse_distance` keeps them live, prefetching occupies every free buffer, and
`stage3_max_live_parameters` limits prefetching only (zero/partitioned_param_coordinator.py).
"""

from collections.abc import Sequence

MIN_AIO_BYTES = 1024**2
"""Partitions below this size are never swapped (swap_tensor/utils.py)."""
AIO_ALIGNED_BYTES = 1024
"""The unit of every transfer, multiplied by aio.intra_op_parallelism (swap_tensor/utils.py)."""


def partition_numel(numel: int, world_size: int) -> int:
    """Elements of one rank's partition (zero/partition_parameters.py: _partition_param)."""
    return -(-numel // world_size)


def aligned_numel(numel: int, element_bytes: int, intra_op_parallelism: int = 1) -> int:
    """Elements after padding to the transfer unit (swap_tensor/*: _io_aligned_numel)."""
    unit = AIO_ALIGNED_BYTES * intra_op_parallelism // element_bytes
    return -(-numel // unit) * unit


def is_swappable(numel: int, element_bytes: int, aio_block_size: int = MIN_AIO_BYTES) -> bool:
    """Whether a partition of `numel` elements is swapped to NVMe. Smaller ones stay in host memory, without a
    buffer (swap_tensor/partitioned_param_swapper.py: swappable_tensor)."""
    return numel * element_bytes >= max(MIN_AIO_BYTES, aio_block_size)


def minimum_buffer_size(parameter_numels: Sequence[int], world_size: int) -> int:
    """Smallest offload_param.buffer_size in elements (partitioned_param_swapper.py: get_buffer)."""
    return max((partition_numel(numel, world_size) for numel in parameter_numels), default=1)


def minimum_buffer_count(
    swappable: int, *, max_reuse_distance: int = 0, gathered_together: int = 4, per_module: int = 1
) -> int:
    """Smallest offload_param.buffer_count that `swappable` parameters cannot exhaust without prefetching.

    With prefetching no count is sufficient, because a parameter can be read twice at once
    (partitioned_param_coordinator.py: __prefetch_nvme_param_partitions).

    With reuse every parameter may occupy a buffer. Without it, transformers' initialize_weights_zero3 gathers
    a module and its direct children (`gathered_together`: q, k, v, o), and a recomputing backward pass holds
    the current module, the recomputed module, and one parameter that is used outside its module
    (`per_module`: swappable parameters that one module owns).
    """
    needed = swappable if max_reuse_distance > 0 else max(gathered_together, 2 * per_module + 1)
    return max(1, min(swappable, needed))


def maximum_persistence_threshold(
    world_size: int, element_bytes: int, aio_block_size: int = MIN_AIO_BYTES
) -> int:
    """Largest threshold, in elements, at which no persistent parameter is swappable.

    Each step gathers all persistent parameters in one call (zero/stage3.py: _post_step), so each swappable
    one would need a buffer.
    """
    return world_size * (-(-max(MIN_AIO_BYTES, aio_block_size) // element_bytes) - 1)


def minimum_optimizer_buffer_count(
    states: int = 2, *, pipeline_read: bool = False, pipeline_write: bool = False
) -> int:
    """Smallest offload_optimizer.buffer_count: weights, gradient and `states` tensors of one sub-group.

    `states` is 2 for Adam and LAMB, and 1 for Lion, Adagrad and SGD with momentum. Prefetching and pipelined
    writing each need the same number again (swap_tensor/partitioned_optimizer_swapper.py,
    pipelined_optimizer_swapper.py).
    """
    return (states + 2) * (1 + pipeline_read + pipeline_write)
