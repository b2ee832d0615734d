"""The learning-rate scheduler: DeepSpeed's or transformers'.

Upstream: deepspeed/runtime/lr_schedules.py, transformers/optimization.py.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from zpipe.schema.base import Auto, Count, Group, Number
from zpipe.schema.batch import Positive

Rate = Annotated[Number, Field(ge=0)]
Steps = Annotated[Count, Field(ge=0)]


class SchedulerParams(Group):
    """Parameters of DeepSpeed's schedulers; null is derived from `train`, or means DeepSpeed's default."""

    warmup_min_lr: Rate | None = None
    """Learning rate at the start of the warmup; null means 0 (WarmupLR, WarmupDecayLR)."""
    warmup_max_lr: Rate | None = None
    """Learning rate after the warmup; null means train.learning_rate (WarmupLR, WarmupDecayLR)."""
    warmup_num_steps: Auto | Positive | None = None
    """Steps of warmup; null means train.warmup_steps (all Warmup schedulers)."""
    warmup_type: Literal["log", "linear"] | None = None
    """Shape of the warmup (all Warmup schedulers)."""
    total_num_steps: Auto | Positive | None = None
    """Steps until the decay ends; null means all training steps (WarmupDecayLR, WarmupCosineLR)."""
    warmup_min_ratio: Rate | None = None
    """Fraction of the learning rate at the start (WarmupCosineLR)."""
    cos_min_ratio: Rate | None = None
    """Fraction of the learning rate at the end (WarmupCosineLR)."""
    lr_range_test_min_lr: Rate | None = None
    """Initial learning rate; null means train.learning_rate (LRRangeTest)."""
    lr_range_test_step_size: Positive | None = None
    """Steps per interval (LRRangeTest)."""
    lr_range_test_step_rate: Rate | None = None
    """Growth of the learning rate per interval (LRRangeTest)."""
    lr_range_test_staircase: bool | None = None
    """Raise the learning rate once per interval instead of continuously (LRRangeTest)."""
    cycle_min_lr: Rate | None = None
    """Lowest learning rate of the cycle; null means a tenth of cycle_max_lr (OneCycle)."""
    cycle_max_lr: Rate | None = None
    """Highest learning rate of the cycle; null means train.learning_rate (OneCycle)."""
    cycle_first_step_size: Positive | None = None
    """Steps of the rising phase (OneCycle)."""
    cycle_second_step_size: Positive | None = None
    """Steps of the falling phase; null means as many as in the rising phase (OneCycle)."""
    cycle_first_stair_count: Steps | None = None
    """Stairs in the rising phase; 0 means continuous (OneCycle)."""
    cycle_second_stair_count: Steps | None = None
    """Stairs in the falling phase (OneCycle)."""
    decay_step_size: Steps | None = None
    """Steps between two decays after the cycle; 0 means no decay (OneCycle)."""
    decay_lr_rate: Rate | None = None
    """Decay of the learning rate after the cycle (OneCycle)."""
    cycle_momentum: bool | None = None
    """Cycle Adam's first beta inversely to the learning rate, and fix the second at 0.99; null means true
    (OneCycle)."""
    cycle_min_mom: Rate | None = None
    """Lowest momentum of the cycle (OneCycle)."""
    cycle_max_mom: Rate | None = None
    """Highest momentum of the cycle (OneCycle)."""
    decay_mom_rate: Rate | None = None
    """Decay of the momentum after the cycle (OneCycle)."""


class Scheduler(Group):
    """The learning-rate scheduler; its warmup is `train.warmup_steps`."""

    type: Literal["WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest"] | None = None
    """A scheduler of DeepSpeed; it is written to the JSON."""
    params: SchedulerParams = Field(default_factory=SchedulerParams)
    lr_scheduler_type: (
        Literal[
            "linear",
            "cosine",
            "constant",
            "constant_with_warmup",
            "cosine_with_restarts",
            "cosine_with_min_lr",
            "cosine_warmup_with_min_lr",
            "polynomial",
            "inverse_sqrt",
            "warmup_stable_decay",
        ]
        | None
    ) = None
    """A scheduler of transformers, by its name in TrainingArguments."""
    lr_scheduler_kwargs: dict[str, Any] = {}
    """Additional parameters of transformers' scheduler."""


_WARMUP = frozenset({"warmup_num_steps", "warmup_type"})
_WARMUP_RATES = _WARMUP | {"warmup_min_lr", "warmup_max_lr"}

PARAMS_OF: dict[str, frozenset[str]] = {
    "WarmupLR": _WARMUP_RATES,
    "WarmupDecayLR": _WARMUP_RATES | {"total_num_steps"},
    "WarmupCosineLR": _WARMUP | {"total_num_steps", "warmup_min_ratio", "cos_min_ratio"},
    "LRRangeTest": frozenset(
        name for name in SchedulerParams.model_fields if name.startswith("lr_range_test_")
    ),
    "OneCycle": frozenset(
        name for name in SchedulerParams.model_fields if name.startswith(("cycle_", "decay_"))
    ),
}
"""Parameters of DeepSpeed's schedulers; tested against the installed classes."""

KWARGS_OF: dict[str, frozenset[str]] = {
    "linear": frozenset(),
    "cosine": frozenset({"num_cycles"}),
    "constant": frozenset(),
    "constant_with_warmup": frozenset(),
    "cosine_with_restarts": frozenset({"num_cycles"}),
    "cosine_with_min_lr": frozenset({"num_cycles", "min_lr", "min_lr_rate"}),
    "cosine_warmup_with_min_lr": frozenset({"num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"}),
    "polynomial": frozenset({"lr_end", "power"}),
    "inverse_sqrt": frozenset({"timescale"}),
    "warmup_stable_decay": frozenset(
        {"num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"}
    ),
}
"""lr_scheduler_kwargs of transformers' schedulers; tested against the installed functions."""

KWARGS_THAT_MAY_BE_NULL = frozenset(
    {"min_lr", "min_lr_rate", "warmup_lr_rate", "timescale", "num_stable_steps"}
)
SHAPES = ("linear", "cosine", "1-sqrt")
KWARGS_OF_SHAPE = frozenset({"warmup_type", "decay_type"})
"""lr_scheduler_kwargs whose values are SHAPES; all others are numbers."""
