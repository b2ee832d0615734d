"""The sizes of ZeRO's buffers in elements, with `auto` and DeepSpeed's defaults resolved."""

from collections.abc import Callable
from dataclasses import dataclass

from zpipe.facts.facts import Facts
from zpipe.schema.experiment import Experiment
from zpipe.schema.stage import Stage

HIDDEN_SIZE_FORMULAS: dict[str, Callable[[int], int]] = {
    "reduce_bucket_size": lambda hidden: hidden * hidden,
    "stage3_prefetch_bucket_size": lambda hidden: int(0.9 * hidden * hidden),
    "stage3_param_persistence_threshold": lambda hidden: 10 * hidden,
}
"""transformers' formulas for `auto` (integrations/deepspeed.py)."""

_DEFAULTS = {
    "reduce_bucket_size": 500_000_000,
    "stage3_prefetch_bucket_size": 50_000_000,
    "stage3_param_persistence_threshold": 100_000,
    "stage3_max_live_parameters": 1_000_000_000,
    "stage3_max_reuse_distance": 1_000_000_000,
    "sub_group_size": 1_000_000_000,
}
"""DeepSpeed's (runtime/zero/config.py)."""


@dataclass(frozen=True)
class ZeroSizes:
    reduce_bucket: int
    prefetch: int
    persistence: int
    max_live: int
    reuse: int
    sub_group: int
    overlaps: bool
    """Whether gradients are reduced on a stream of their own."""
    is_contiguous: bool


def zero_sizes(experiment: Experiment, facts: Facts) -> ZeroSizes:
    stage, swaps = experiment.stage, experiment.offload.offload_param.device == "nvme"
    sub_group = 1 if experiment.offload.offload_optimizer.device == "nvme" else _DEFAULTS["sub_group_size"]
    return ZeroSizes(
        reduce_bucket=_elements(stage, "reduce_bucket_size", facts),
        prefetch=0 if swaps else _elements(stage, "stage3_prefetch_bucket_size", facts),
        persistence=_elements(stage, "stage3_param_persistence_threshold", facts),
        max_live=_elements(stage, "stage3_max_live_parameters", facts),
        reuse=0 if swaps else _elements(stage, "stage3_max_reuse_distance", facts),
        sub_group=stage.sub_group_size if isinstance(stage.sub_group_size, int) else sub_group,
        overlaps=stage.stage == 3 if stage.overlap_comm is None else stage.overlap_comm,
        is_contiguous=stage.contiguous_gradients is not False,
    )


def _elements(stage: Stage, name: str, facts: Facts) -> int:
    value = getattr(stage, name)
    if isinstance(value, int):
        return value
    if value == "auto" and name in HIDDEN_SIZE_FORMULAS and facts.model.hidden_size is not None:
        return HIDDEN_SIZE_FORMULAS[name](facts.model.hidden_size)
    return _DEFAULTS[name]
