"""Precision: DeepSpeed's fp16, bf16, data_types and torch_autocast blocks.

Upstream: deepspeed/runtime/precision_config.py.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.batch import Positive

NO_FP8 = "accelerate's fp8 fails under DeepSpeed, which cannot move or gather the layers that it converts"
"""Seen with torchao 0.18, accelerate 1.15 and DeepSpeed 0.19 at stages 1 to 3."""


def _not_fp8(value: Any) -> Any:
    if value == "fp8":
        raise ValueError(f"another format than fp8 ({NO_FP8})")
    return value


DType = Annotated[Literal["fp32", "tf32", "fp16", "bf16", "auto"], BeforeValidator(_not_fp8)]


class Fp16(Group):
    """Loss scaling and other fp16 settings; used only with precision=fp16."""

    auto_cast: bool | None = None
    """Cast the inputs of the model to fp16."""
    loss_scale: Annotated[Number, Field(ge=0)] | None = None
    """0 means dynamic loss scaling; any other value is a fixed scale."""
    initial_scale_power: Annotated[Count, Field(ge=0)] | None = None
    """The initial dynamic scale is 2 to this power."""
    loss_scale_window: Positive | None = None
    """Steps without overflow before the scale doubles."""
    hysteresis: Positive | None = None
    """Overflows before the scale is lowered; with 0 DeepSpeed would never lower it."""
    consecutive_hysteresis: bool | None = None
    """Count only consecutive overflows."""
    min_loss_scale: Positive | None = None
    """Lower bound of the dynamic scale; DeepSpeed's default is 1."""
    fp16_master_weights_and_grads: bool | None = None
    """Keep master weights and gradients in fp16 (needs CPU offload at stage 2)."""


class Bf16(Group):
    """bfloat16 settings; used only with precision=bf16."""

    immediate_grad_update: bool | None = None
    """Add each gradient to the fp32 sum as soon as it is computed."""
    check_grad_overflow: bool | None = None
    """Skip steps whose gradients are not finite."""
    bf16_master_weights_and_grads: bool | None = None
    """Keep master weights and gradients in bf16."""
    bf16_optimizer_states: bool | None = None
    """Keep the optimizer states in bf16 as well."""


class DataTypes(Group):
    """DeepSpeed's data_types block."""

    grad_accum_dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Dtype in which gradients accumulate; null means the training dtype."""
    param_dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Dtype of the parameters; null means the training dtype."""
    buffer_dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Dtype of the buffers; null keeps the dtype in which they were loaded."""
    keep_in_fp32_modules: Literal["auto"] | list[str] | None = None
    """Name patterns of buffers that stay in fp32; null means DeepSpeed's auto."""


class TorchAutocast(Group):
    """PyTorch's automatic mixed precision inside DeepSpeed's engine."""

    enabled: bool | None = None
    """Run the forward pass under torch.autocast; not with fp16."""
    dtype: Literal["bfloat16", "float16"] | None = None
    """Dtype of the operations that autocast runs in lower precision."""
    lower_precision_safe_modules: list[str] | None = None
    """Modules whose parameters are communicated in dtype; null means linear layers and convolutions."""


class Precision(Group):
    """Dtype of the forward and backward pass, and of communication."""

    dtype: DType = "auto"
    """auto: bf16 if the GPU supports it, fp16 on older GPUs, fp32 without a GPU."""
    fp16: Fp16 = Field(default_factory=Fp16)
    bf16: Bf16 = Field(default_factory=Bf16)
    communication_data_type: Literal["fp32", "fp16", "bf16"] | None = None
    """Dtype of gradient reductions; null means the training dtype."""
    data_types: DataTypes = Field(default_factory=DataTypes)
    torch_autocast: TorchAutocast = Field(default_factory=TorchAutocast)
    max_skipped_steps_at_min_scale: Annotated[Count, Field(ge=1)] | None = 10
    """Consecutive skipped steps at the lowest loss scale after which an fp16 run ends; null means never."""
    max_nonfinite_steps: Annotated[Count, Field(ge=1)] | None = 25
    """Consecutive steps without a finite loss or gradient after which a run ends; null means never."""
