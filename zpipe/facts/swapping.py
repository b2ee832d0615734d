"""What swapping must be able to hold, for this experiment on this machine."""

from zpipe.facts.facts import Facts
from zpipe.memory.swap import (
    MIN_AIO_BYTES,
    is_swappable,
    maximum_persistence_threshold,
    minimum_buffer_count,
    minimum_buffer_size,
    minimum_optimizer_buffer_count,
    partition_numel,
)
from zpipe.schema.experiment import Experiment

DEFAULT_REUSE_DISTANCE = 1_000_000_000
DEFAULT_PREFETCH = 50_000_000


def least_buffer_size(facts: Facts) -> int | None:
    """Elements of one parameter buffer; null if the model cannot be looked into."""
    if facts.parameter_numels is None:
        return None
    return minimum_buffer_size(facts.parameter_numels, facts.world_size)


def least_buffer_count(experiment: Experiment, facts: Facts) -> int | None:
    """Parameter buffers that cannot run out; null if the model cannot be looked into."""
    if facts.parameter_numels is None:
        return None
    stage = experiment.stage
    partitions = [partition_numel(numel, facts.world_size) for numel in facts.parameter_numels]
    return minimum_buffer_count(
        sum(is_swappable(numel, _element_bytes(facts), _block_size(experiment)) for numel in partitions),
        max_reuse_distance=_elements(stage.stage3_max_reuse_distance, DEFAULT_REUSE_DISTANCE),
        prefetch_bucket_size=_elements(stage.stage3_prefetch_bucket_size, DEFAULT_PREFETCH),
    )


def least_optimizer_buffer_count(experiment: Experiment) -> int:
    """Optimizer buffers for one sub-group of Adam's, and for those read ahead or still written."""
    block = experiment.offload.offload_optimizer
    return minimum_optimizer_buffer_count(
        pipeline_read=bool(block.pipeline_read), pipeline_write=bool(block.pipeline_write)
    )


def greatest_persistence_threshold(experiment: Experiment, facts: Facts) -> int:
    """Elements below which parameters may stay unpartitioned without ever being swapped."""
    return maximum_persistence_threshold(facts.world_size, _element_bytes(facts), _block_size(experiment))


def _element_bytes(facts: Facts) -> int:
    return 2 if facts.dtype in ("fp16", "bf16") else 4


def _block_size(experiment: Experiment) -> int:
    return experiment.offload.aio.block_size or MIN_AIO_BYTES


def _elements(value: int | str | None, default: int) -> int:
    """The value; `auto` keeps nothing and fetches nothing ahead, null is DeepSpeed's default."""
    if isinstance(value, int):
        return value
    return default if value is None else 0
