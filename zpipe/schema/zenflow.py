"""ZenFlow: important gradients are applied immediately, the others later on the host.

Upstream: deepspeed/runtime/zenflow/zenflow_config.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Auto, Count, Group, Number
from zpipe.schema.batch import Positive


class ZenFlow(Group):
    """DeepSpeed's zero_optimization.zenflow, which does not work under transformers' Trainer."""

    topk_ratio: Annotated[Number, Field(gt=0, lt=1)] | None = None
    """Fraction of the gradient columns that is applied immediately."""
    select_strategy: Literal["auto", "step", "epoch"] | None = None
    """When the important columns are selected again."""
    select_interval: Auto | Positive | None = None
    """Steps or epochs between two selections."""
    update_interval: Auto | Positive | None = None
    """Steps between two updates of the other columns."""
    overlap_step: bool | None = None
    """Overlap the host's update with the next forward and backward pass."""
    offload: bool | None = None
    """Keep the states of the important columns on the host too."""
    auto_ratio: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Threshold from which `auto` derives update_interval."""
    full_warm_up_rounds: Annotated[Count, Field(ge=0)] | None = None
    """Initial rounds in which every column is applied immediately."""
    pt_reserved_cores_perc: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Fraction of the CPU cores reserved for PyTorch."""
