"""TrainingArguments that belong to no other group.

Upstream: transformers/training_args.py. Arguments that belong to another group, and arguments that zpipe
does not offer, are listed in `zpipe.schema.training_arguments`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Interval, Number

NonNegative = Annotated[Number, Field(ge=0)]
NonNegativeCount = Annotated[Count, Field(ge=0)]


class Train(Group):
    """Training settings, with TrainingArguments' names. null means transformers' default."""

    max_steps: Count = -1
    """Optimizer steps; -1 means that num_train_epochs decides."""
    num_train_epochs: NonNegative = 1.0
    learning_rate: NonNegative = 5e-5
    weight_decay: NonNegative = 0.0
    adam_beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    adam_epsilon: NonNegative = 1e-8
    max_grad_norm: NonNegative = 1.0
    """Maximum gradient norm for clipping, DeepSpeed's gradient_clipping; 0 turns clipping off."""
    warmup_steps: NonNegative = 0
    """Steps of warmup; a value below 1 is a fraction of all steps."""
    seed: NonNegativeCount = 42
    data_seed: NonNegativeCount | None = None
    full_determinism: bool = False
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    gradient_checkpointing_kwargs: dict[str, Any] = {}
    """Arguments of torch.utils.checkpoint, such as use_reentrant."""
    logging_steps: Annotated[Count, Field(ge=1)] = 10
    """Steps between two log entries."""
    logging_first_step: bool = True
    logging_nan_inf_filter: bool = False
    """Hide losses that are not finite; transformers' default is true."""
    eval_strategy: Interval = "no"
    eval_steps: Annotated[Count, Field(ge=1)] | None = None
    """Steps between two evaluations with eval_strategy=steps; null means logging_steps."""
    eval_delay: NonNegative = 0
    """Steps or epochs before the first evaluation, counted in the unit of eval_strategy."""
    eval_on_start: bool = False
    eval_accumulation_steps: Annotated[Count, Field(ge=1)] | None = None
    prediction_loss_only: bool = True
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    dataloader_drop_last: bool = False
    dataloader_num_workers: NonNegativeCount = 0
    dataloader_pin_memory: bool = True
    dataloader_persistent_workers: bool = False
    dataloader_prefetch_factor: Annotated[Count, Field(ge=1)] | None = None
    """Batches that each data loader worker prefetches; 0 would leave nothing to train on."""
    train_sampling_strategy: Literal["random", "sequential"] = "random"
    """Order in which the training sequences are read."""
    label_smoothing_factor: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    neftune_noise_alpha: NonNegative | None = None
    """Scale of the noise that NEFTune adds to the embeddings; null adds none."""
    average_tokens_across_devices: bool = True
    torch_empty_cache_steps: Annotated[Count, Field(ge=1)] | None = None
    use_liger_kernel: bool | None = None
    """Liger's kernels; null is false, unless `kernels` turns them on."""
    liger_kernel_config: dict[str, bool] = {}
    """Kernels of Liger by name, such as rope; those left out are as Liger sets them."""
    torch_compile: bool = False
    torch_compile_backend: str | None = None
    torch_compile_mode: str | None = None
    ignore_data_skip: bool = False
    ddp_timeout: Annotated[Count, Field(ge=1)] = 1800
    """Seconds after which a stuck collective ends the run."""

    @property
    def is_compiled(self) -> bool:
        """A backend or a mode also turns on compilation (transformers/training_args.py, __post_init__)."""
        return (
            self.torch_compile
            or self.torch_compile_backend is not None
            or self.torch_compile_mode is not None
        )
