"""Optimizer, learning-rate scheduler and batch."""

from typing import Annotated, Any, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group

Positive = Annotated[Count, Field(ge=1)]


class Optimizer(Group):
    """Which optimizer, and whose. Its learning rate, betas, epsilon and decay are under `train`."""

    type: Literal["AdamW", "Adam"] | None = None
    """An optimizer of DeepSpeed's, written to the JSON."""
    optim: Literal["adamw_torch", "adamw_torch_fused"] | None = None
    """An optimizer of transformers', in TrainingArguments' name."""
    torch_adam: bool | None = None
    """PyTorch's Adam instead of DeepSpeed's own operator; null decides by the device."""


class Scheduler(Group):
    """The learning-rate scheduler; its warmup is `train.warmup_steps`."""

    type: Literal["WarmupLR", "WarmupDecayLR", "WarmupCosineLR"] | None = None
    """A scheduler of DeepSpeed's, written to the JSON."""
    params: dict[str, Any] = {}
    """Further parameters of DeepSpeed's scheduler."""
    lr_scheduler_type: (
        Literal[
            "linear",
            "cosine",
            "constant",
            "constant_with_warmup",
            "cosine_with_restarts",
            "cosine_with_min_lr",
            "polynomial",
            "inverse_sqrt",
        ]
        | None
    ) = None
    """A scheduler of transformers', in TrainingArguments' name."""
    lr_scheduler_kwargs: dict[str, Any] = {}
    """Further parameters of transformers' scheduler."""


class Batch(Group):
    """Sequences a step."""

    per_device_train_batch_size: Positive = 1
    """Sequences a device processes at a time: DeepSpeed's train_micro_batch_size_per_gpu."""
    per_device_eval_batch_size: Positive | None = None
    """The same in evaluation; null means as in training."""
    gradient_accumulation_steps: Positive = 1
    """Micro-batches a device processes between two optimizer steps."""
    train_batch_size: Positive | None = None
    """Sequences of all devices in one optimizer step; null means the product of the others."""
