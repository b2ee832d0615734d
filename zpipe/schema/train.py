"""TrainingArguments' names that no other group owns.

Upstream: transformers/training_args.py. Those that another group owns, and those that make no sense
under zpipe, are listed in `zpipe.schema.training_arguments`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number

NonNegative = Annotated[Number, Field(ge=0)]
Whole = Annotated[Count, Field(ge=0)]
Interval = Literal["no", "steps", "epoch"]


class Train(Group):
    """Training settings, in TrainingArguments' names. null leaves transformers' default."""

    max_steps: Count = -1
    """Optimizer steps; -1 means num_train_epochs decides."""
    num_train_epochs: NonNegative = 1.0
    learning_rate: NonNegative = 5e-5
    weight_decay: NonNegative = 0.0
    adam_beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    adam_epsilon: NonNegative = 1e-8
    max_grad_norm: NonNegative = 1.0
    """Gradient clipping: DeepSpeed's gradient_clipping. 0 turns it off."""
    warmup_steps: NonNegative = 0
    """Steps of warmup; below 1 it is the share of all steps."""
    seed: Whole = 42
    data_seed: Whole | None = None
    full_determinism: bool = False
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    gradient_checkpointing_kwargs: dict[str, Any] = {}
    logging_steps: Annotated[Count, Field(ge=1)] = 10
    logging_first_step: bool = True
    logging_nan_inf_filter: bool = False
    """transformers' default hides losses that are not finite; zpipe shows them."""
    eval_strategy: Interval = "no"
    eval_steps: Annotated[Count, Field(ge=1)] | None = None
    eval_delay: NonNegative = 0
    eval_on_start: bool = False
    eval_accumulation_steps: Annotated[Count, Field(ge=1)] | None = None
    prediction_loss_only: bool = True
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    dataloader_drop_last: bool = False
    dataloader_num_workers: Whole = 0
    dataloader_pin_memory: bool = True
    dataloader_persistent_workers: bool = False
    dataloader_prefetch_factor: Annotated[Count, Field(ge=1)] | None = None
    """Batches that each worker of the data loader has ready; 0 would train on none."""
    train_sampling_strategy: Literal["random", "sequential"] = "random"
    label_smoothing_factor: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    neftune_noise_alpha: NonNegative | None = None
    average_tokens_across_devices: bool = True
    torch_empty_cache_steps: Annotated[Count, Field(ge=1)] | None = None
    use_liger_kernel: bool = False
    liger_kernel_config: dict[str, bool] = {}
    torch_compile: bool = False
    torch_compile_backend: str | None = None
    torch_compile_mode: str | None = None
    ignore_data_skip: bool = False
    ddp_timeout: Annotated[Count, Field(ge=1)] = 1800
    """Seconds until a stuck collective ends the run."""

    @property
    def is_compiled(self) -> bool:
        """A backend or a mode switches compilation on too (transformers/training_args.py, __post_init__)."""
        return (
            self.torch_compile
            or self.torch_compile_backend is not None
            or self.torch_compile_mode is not None
        )
