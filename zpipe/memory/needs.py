"""The buffers that swapping needs, for one experiment on one machine."""

from zpipe.facts.facts import Facts
from zpipe.memory.swap import (
    MIN_AIO_BYTES,
    aligned_numel,
    is_swappable,
    maximum_persistence_threshold,
    minimum_buffer_count,
    minimum_buffer_size,
    minimum_optimizer_buffer_count,
    partition_numel,
)
from zpipe.schema.experiment import Experiment

DEFAULT_REUSE_DISTANCE = 1_000_000_000
MASTER_BYTES = 4


def least_buffer_size(facts: Facts) -> int | None:
    """Elements of one parameter buffer; None if the model cannot be inspected."""
    if facts.parameter_numels is None:
        return None
    return minimum_buffer_size(facts.parameter_numels, facts.world_size)


def swappable_parameters(experiment: Experiment, facts: Facts) -> int | None:
    """Parameters whose partitions are large enough to be swapped; None if the model cannot be inspected."""
    if facts.parameter_numels is None:
        return None
    partitions = [partition_numel(numel, facts.world_size) for numel in facts.parameter_numels]
    return sum(is_swappable(numel, _element_bytes(facts), _block_size(experiment)) for numel in partitions)


def least_buffer_count(experiment: Experiment, facts: Facts) -> int | None:
    """Parameter buffers that swapping cannot exhaust; None if the model cannot be inspected."""
    swappable = swappable_parameters(experiment, facts)
    if swappable is None:
        return None
    reuse = _elements(experiment.stage.stage3_max_reuse_distance, DEFAULT_REUSE_DISTANCE)
    return minimum_buffer_count(swappable, max_reuse_distance=reuse)


def least_optimizer_buffer_count(experiment: Experiment) -> int:
    """Optimizer buffers for one sub-group of Adam, and for those being prefetched or written."""
    block = experiment.offload.offload_optimizer
    return minimum_optimizer_buffer_count(
        pipeline_read=bool(block.pipeline_read), pipeline_write=bool(block.pipeline_write)
    )


def greatest_persistence_threshold(experiment: Experiment, facts: Facts) -> int:
    """Elements below which parameters may stay unpartitioned without being swapped."""
    return maximum_persistence_threshold(facts.world_size, _element_bytes(facts), _block_size(experiment))


def partitions_are_aligned(experiment: Experiment, facts: Facts) -> bool:
    """Whether each partition fills whole transfer units."""
    partitions = [partition_numel(numel, facts.world_size) for numel in facts.parameter_numels or ()]
    threads = experiment.offload.aio.intra_op_parallelism or 1
    return all(aligned_numel(numel, _element_bytes(facts), threads) == numel for numel in partitions)


def pinned_bytes(experiment: Experiment, facts: Facts) -> int | None:
    """Bytes of pinned host memory that swapping uses on one rank; None if the model is unknown.

    Parameter buffers and the buffer for writing back, optimizer buffers, and all gradient partitions
    (deepspeed/runtime/zero/stage3.py).
    """
    size, count = least_buffer_size(facts), least_buffer_count(experiment, facts)
    if size is None or count is None or facts.parameter_numels is None:
        return None
    offload, bytes_ = experiment.offload, _element_bytes(facts)
    pinned = sum(partition_numel(numel, facts.world_size) for numel in facts.parameter_numels) * bytes_
    if offload.offload_param.device == "nvme":
        buffers = (offload.offload_param.buffer_count or count) + 1
        pinned += buffers * aligned_numel(offload.offload_param.buffer_size or size, bytes_) * bytes_
    if offload.offload_optimizer.device == "nvme":
        buffers = offload.offload_optimizer.buffer_count or least_optimizer_buffer_count(experiment)
        pinned += buffers * aligned_numel(size, MASTER_BYTES) * MASTER_BYTES
    return pinned


def _element_bytes(facts: Facts) -> int:
    return 2 if facts.dtype in ("fp16", "bf16") else 4


def _block_size(experiment: Experiment) -> int:
    return experiment.offload.aio.block_size or MIN_AIO_BYTES


def _elements(value: int | str | None, default: int) -> int:
    """The value in elements: 0 for `auto`, which disables reuse and prefetching; the default for None."""
    if isinstance(value, int):
        return value
    return default if value is None else 0
