"""Number formats: DeepSpeed's fp16 and bf16 blocks and what belongs to them.

Upstream: deepspeed/runtime/precision_config.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.batch import Positive

DType = Literal["fp32", "tf32", "fp16", "bf16", "auto"]


class Fp16(Group):
    """Loss scaling and friends; acts under precision=fp16 alone."""

    auto_cast: bool | None = None
    """Cast the inputs of the model to fp16."""
    loss_scale: Annotated[Number, Field(ge=0)] | None = None
    """0: dynamic loss scaling; otherwise the fixed scale."""
    initial_scale_power: Annotated[Count, Field(ge=0)] | None = None
    """The first dynamic scale is 2 to this power."""
    loss_scale_window: Positive | None = None
    """Steps without overflow until the scale doubles."""
    hysteresis: Positive | None = None
    """Overflows until the scale is lowered; with 0 DeepSpeed would never lower it."""
    consecutive_hysteresis: bool | None = None
    """Count only consecutive overflows."""
    min_loss_scale: Positive | None = None
    """The dynamic scale is never lowered below this; DeepSpeed's default is 1."""
    fp16_master_weights_and_grads: bool | None = None
    """Keep master weights and gradients in fp16 (needs CPU offload at stage 2)."""


class Bf16(Group):
    """bfloat16; acts under precision=bf16 alone."""

    immediate_grad_update: bool | None = None
    """Add each gradient to the fp32 sum as soon as it exists."""
    check_grad_overflow: bool | None = None
    """Skip steps whose gradients are not finite."""
    bf16_master_weights_and_grads: bool | None = None
    """Keep master weights and gradients in bf16."""
    bf16_optimizer_states: bool | None = None
    """Keep the optimizer's states in bf16 too."""


class DataTypes(Group):
    """DeepSpeed's data_types block."""

    grad_accum_dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Format in which gradients accumulate; null means the training format."""
    param_dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Format of the parameters; null means the training format."""
    buffer_dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Format of the buffers; null keeps that in which they were loaded."""
    keep_in_fp32_modules: Literal["auto"] | list[str] | None = None
    """Name patterns of buffers that stay in fp32; null is DeepSpeed's auto."""


class TorchAutocast(Group):
    """PyTorch's automatic mixed precision inside DeepSpeed's engine."""

    enabled: bool | None = None
    """Run the forward pass under torch.autocast; the parameters stay in fp32."""
    dtype: Literal["bfloat16", "float16"] | None = None
    """Format of the operations that are safe in it."""
    lower_precision_safe_modules: list[str] | None = None
    """Classes whose parameters are communicated in dtype; null means linear layers and convolutions."""


class Precision(Group):
    """The number format of the forward and backward pass, and of the communication."""

    dtype: DType = "auto"
    """auto: bf16 where the GPU has it, fp16 on older GPUs, fp32 without a GPU."""
    fp16: Fp16 = Field(default_factory=Fp16)
    bf16: Bf16 = Field(default_factory=Bf16)
    communication_data_type: Literal["fp32", "fp16", "bf16"] | None = None
    """Format of gradient reductions; null means the training format."""
    data_types: DataTypes = Field(default_factory=DataTypes)
    torch_autocast: TorchAutocast = Field(default_factory=TorchAutocast)
    max_skipped_steps_at_min_scale: Annotated[Count, Field(ge=1)] | None = 10
    """End an fp16 run after so many skipped steps in a row at the lowest loss scale; null never does."""
    max_nonfinite_steps: Annotated[Count, Field(ge=1)] | None = 25
    """End a run after so many steps in a row without a finite loss or gradient; null never does."""
