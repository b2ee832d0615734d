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
"""transformers' formulas for `auto` (integrations/deepspeed.py), for a CPU and for an unknown model."""

_ON_A_GPU = {
    "reduce_bucket_size": 200_000_000,
    "stage3_prefetch_bucket_size": 100_000_000,
    "stage3_param_persistence_threshold": 1_000_000,
}
"""Measured on two H100s with 1.2e9 parameters, these save a fifth of the time of a small step."""
_SHARE = 0.01
"""Of a GPU's memory that a bucket, or all persistent parameters, may take."""

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
    secondary: int
    """Ranks that share a second copy of the parameters (ZeRO++ hpZ); 1 without one."""


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
        secondary=_secondary(stage, facts),
    )


def _secondary(stage: Stage, facts: Facts) -> int:
    given = stage.zero_hpz_partition_size
    return facts.nproc_per_node if given == "auto" else given or 1


def _elements(stage: Stage, name: str, facts: Facts) -> int:
    value = getattr(stage, name)
    if isinstance(value, int):
        return value
    found = automatic_size(name, facts) if value == "auto" else None
    return _DEFAULTS[name] if found is None else found


def automatic_size(name: str, facts: Facts) -> int | None:
    """What `auto` means for one of the keys of `HIDDEN_SIZE_FORMULAS`; None if the model is not known yet."""
    if name not in HIDDEN_SIZE_FORMULAS or facts.model.hidden_size is None:
        return None
    least = HIDDEN_SIZE_FORMULAS[name](facts.model.hidden_size)
    if facts.device != "cuda" or not facts.hardware.gpus or facts.parameter_numels is None:
        return least
    element = 4 if facts.parameter_dtype == "fp32" else 2
    room = int(_SHARE * min(gpu.memory for gpu in facts.hardware.gpus)) // element
    if name == "stage3_param_persistence_threshold":
        persistent = sum(each for each in facts.parameter_numels if each < _ON_A_GPU[name])
        return max(_ON_A_GPU[name], least) if persistent <= room else least
    most = min(_ON_A_GPU[name], room)
    return min(max(most, least), sum(facts.parameter_numels))
