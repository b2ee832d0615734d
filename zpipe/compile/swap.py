"""Sets the values that swapping requires, derived from the shapes of the model's parameters."""

from typing import Any

from zpipe.facts.facts import Facts
from zpipe.memory.needs import (
    greatest_persistence_threshold,
    least_buffer_count,
    least_buffer_size,
    least_optimizer_buffer_count,
)
from zpipe.schema.experiment import Experiment

LARGE = 1_000_000_000
"""Elements: DeepSpeed's own default, in effect no limit."""


def resolve_for_swapping(zero: dict[str, Any], experiment: Experiment, facts: Facts) -> None:
    """Completes the zero_optimization block in place. Values set by the user were checked and are kept.

    A live parameter occupies a swap buffer, so under NVMe offload nothing is kept for reuse or prefetched.
    Each parameter is its own sub-group, because larger sub-groups can be read misaligned.
    """
    optimizer, param = zero.get("offload_optimizer", {}), zero.get("offload_param", {})
    swaps_states, swaps_parameters = optimizer.get("device") == "nvme", param.get("device") == "nvme"
    _resolve(zero, "sub_group_size", 1 if swaps_states else LARGE)
    _resolve(zero, "stage3_max_reuse_distance", 0 if swaps_parameters else LARGE)
    if swaps_states:
        optimizer.setdefault("buffer_count", least_optimizer_buffer_count(experiment))
    if swaps_parameters:
        _resolve(zero, "stage3_prefetch_bucket_size", 0)
        param.setdefault("buffer_count", least_buffer_count(experiment, facts))
        param.setdefault("buffer_size", least_buffer_size(facts))
        param.setdefault("max_in_cpu", 0)  # DeepSpeed silently keeps 1e9 elements in memory by default


def _resolve(zero: dict[str, Any], name: str, value: int) -> None:
    if zero.get(name) == "auto":
        zero[name] = value


def bound_persistence(zero: dict[str, Any], experiment: Experiment, facts: Facts) -> None:
    """Limits the persistence threshold, so that no parameter that stays unpartitioned is swapped."""
    threshold = zero.get("stage3_param_persistence_threshold")
    if zero.get("offload_param", {}).get("device") == "nvme" and isinstance(threshold, int):
        most = greatest_persistence_threshold(experiment, facts)
        zero["stage3_param_persistence_threshold"] = min(threshold, most)
