"""Checkpoints: what is saved, how often, and DeepSpeed's checkpoint block.

Upstream: transformers/training_args.py, deepspeed/runtime/config.py, deepspeed/runtime/model_checkpointing.
"""

from typing import Literal

from pydantic import Field

from zpipe.schema.base import Group
from zpipe.schema.batch import Positive


class ParallelWrite(Group):
    """DeepSpeed's checkpoint.parallel_write."""

    pipeline_stage: bool | None = None
    """Let each pipeline stage write its layers side by side."""


class CheckpointWriter(Group):
    """DeepSpeed's checkpoint.writer (deepspeed/runtime/model_checkpointing)."""

    type: Literal["MOCK", "PYTHON", "FAST"] | None = None
    """Which writer."""
    io_buffer_size: Positive | None = None
    """Bytes of a buffer."""
    io_buffer_double: bool | None = None
    """Two buffers."""
    io_multiplier: Positive | None = None
    """Writers of one rank."""
    data_parallel: Literal["REPLICA", "SOCKET", "MACHINE"] | None = None
    """Which ranks share the writing."""
    show_statistics: bool | None = None
    """Log the speed."""
    decoupled: bool | None = None
    """Write in a process of its own."""


class Checkpoint(Group):
    """What is saved, in TrainingArguments' names, and how, in those of DeepSpeed's checkpoint block."""

    save_strategy: Literal["no", "steps", "epoch"] = "steps"
    save_steps: Positive = 500
    """Steps between two checkpoints."""
    save_total_limit: Positive | None = None
    """Checkpoints that are kept."""
    save_only_model: bool = False
    """Leave optimizer, scheduler and random state out: such a checkpoint cannot be resumed."""
    save_on_each_node: bool = False
    """For nodes without shared storage."""
    save_final_model: bool = True
    """Write the model folder at the end."""
    tag_validation: Literal["WARN", "IGNORE", "FAIL", "warn", "ignore", "fail"] | None = None
    """What happens when ranks save under different tags."""
    load_universal: bool | None = None
    """Resume from a universal checkpoint."""
    checkpoint_serialization: bool | None = None
    """Let torch.save serialise as a zip file."""
    parallel_write: ParallelWrite = Field(default_factory=ParallelWrite)
    writer: CheckpointWriter = Field(default_factory=CheckpointWriter)
