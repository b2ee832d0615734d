"""Sequences a step."""

from typing import Annotated

from pydantic import Field

from zpipe.schema.base import Count, Group

Positive = Annotated[Count, Field(ge=1)]


class Batch(Group):
    """Sequences a step."""

    per_device_train_batch_size: Positive = 1
    """Sequences a device processes at a time: DeepSpeed's train_micro_batch_size_per_gpu."""
    per_device_eval_batch_size: Positive | None = None
    """The same in evaluation; null means as in training."""
    gradient_accumulation_steps: Positive | None = None
    """Micro-batches between two optimizer steps; null means 1, or what train_batch_size asks for."""
    train_batch_size: Positive | None = None
    """Sequences of all devices in one optimizer step; null means the product of the others."""
