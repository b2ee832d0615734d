"""Checkpoints: what is saved, how often, and DeepSpeed's checkpoint block.

Upstream: transformers/training_args.py, deepspeed/runtime/config.py, deepspeed/runtime/model_checkpointing.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from zpipe.schema.base import Auto, Group, Interval, Number, seconds_from_text
from zpipe.schema.batch import Positive


class ParallelWrite(Group):
    """DeepSpeed's checkpoint.parallel_write."""

    pipeline_stage: bool | None = None
    """Let the pipeline stages write their layers in parallel."""


class CheckpointWriter(Group):
    """DeepSpeed's checkpoint.writer (deepspeed/runtime/model_checkpointing)."""

    type: Literal["MOCK", "PYTHON", "FAST"] | None = None
    """Type of the writer."""
    io_buffer_size: Positive | None = None
    """Bytes per buffer."""
    io_buffer_double: bool | None = None
    """Use two buffers."""
    io_multiplier: Positive | None = None
    """Writers per rank."""
    data_parallel: Literal["REPLICA", "SOCKET", "MACHINE"] | None = None
    """How writing is distributed across ranks."""
    show_statistics: bool | None = None
    """Log the write speed."""
    decoupled: bool | None = None
    """Write in a separate process."""


class Checkpoint(Group):
    """What is saved (TrainingArguments' names), and how (names of DeepSpeed's checkpoint block)."""

    save_strategy: Interval = "steps"
    save_steps: Positive = 500
    """Steps between two checkpoints."""
    every_minutes: Annotated[Number, Field(gt=0)] | None = None
    """Minutes after which a checkpoint is saved, beside those of save_strategy."""
    stop_after: Annotated[Number, BeforeValidator(seconds_from_text), Field(gt=0)] | None = None
    """Time budget of an attempt, in seconds or as text such as 3h50m: it then saves and stops."""
    stop_timeout_s: Annotated[Number, Field(gt=0)] = 300.0
    """Seconds that a run which is asked to stop may take to save a checkpoint."""
    save_total_limit: Positive | None = None
    """Checkpoints to keep."""
    save_only_model: bool = False
    """Leave out optimizer, scheduler and random states; such a checkpoint cannot be resumed."""
    async_save: Auto | bool = "auto"
    """Let the training go on while a copy in host memory is written; auto does if the memory has room."""
    node_local: bool = False
    """Save the states of each node on its own disk, instead of in the run folder that the nodes share."""
    node_local_path: str | None = None
    """Folder on the local disk of each node, in which node_local gives the run a folder of its own."""
    save_final_model: bool = True
    """Save the model folder at the end of the run."""
    tag_validation: Literal["WARN", "IGNORE", "FAIL", "warn", "ignore", "fail"] | None = None
    """What happens when ranks save under different tags."""
    load_universal: bool | None = None
    """Resume from a universal checkpoint."""
    checkpoint_serialization: bool | None = None
    """Let torch.save write zip files."""
    parallel_write: ParallelWrite = Field(default_factory=ParallelWrite)
    writer: CheckpointWriter = Field(default_factory=CheckpointWriter)
