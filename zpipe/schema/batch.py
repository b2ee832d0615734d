"""The batch: sequences for each device and for each optimizer step."""

from typing import Annotated

from pydantic import Field

from zpipe.schema.base import Count, Group

Positive = Annotated[Count, Field(ge=1)]


class Batch(Group):
    """Sequences for each device and for each optimizer step."""

    per_device_train_batch_size: Positive | None = 1
    """Sequences of one micro-batch on one device, DeepSpeed's train_micro_batch_size_per_gpu; null means the
    number that train_batch_size requires, or 1."""
    per_device_eval_batch_size: Positive | None = None
    """Sequences of one evaluation batch on one device; null means the same as in training."""
    gradient_accumulation_steps: Positive | None = None
    """Micro-batches per optimizer step; null means 1, or the number that train_batch_size requires."""
    train_batch_size: Positive | None = None
    """Sequences of all devices in one optimizer step; null computes it from the other sizes."""
    global_batch_size: Positive | None = None
    """Another name of train_batch_size, which batch=auto keeps: the micro-batch divides it."""

    @property
    def sequences(self) -> int | None:
        """Of all devices in one optimizer step, where that is set."""
        return self.global_batch_size if self.train_batch_size is None else self.train_batch_size

    @property
    def sequences_key(self) -> str:
        """The key that sets them."""
        return "batch.global_batch_size" if self.train_batch_size is None else "batch.train_batch_size"
