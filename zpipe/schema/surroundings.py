"""What surrounds the optimization: model, data, launcher, checkpoints and tracking."""

from typing import Annotated, Any, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number, Texts
from zpipe.schema.batch import Positive


class Model(Group):
    """A pretrained model, or an architecture with random weights."""

    name_or_path: str | None = None
    """A local folder or a hub id, loaded with from_pretrained."""
    config: dict[str, Any] = {}
    """transformers' configuration of an architecture; acts without name_or_path and starts at random."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer; null means the model's own, or bytes for random weights."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3"] | None = None
    """Attention kernel; null leaves the choice to transformers."""
    trust_remote_code: bool = False
    """Run Python code that a hub repository brings along."""


class Data(Group):
    """What is trained on."""

    source: Literal["files", "python_stdlib"] = "files"
    """files: `data.path`; python_stdlib: the sources of the running interpreter's standard library."""
    path: str | None = None
    """A jsonl, json, csv, parquet or text file, a folder of such, or a hub id."""
    split: str = "train"
    """Split of a hub data set."""
    columns: Literal["auto", "text", "prompt_completion", "messages"] = "auto"
    """Which columns hold the examples; auto looks."""
    max_length: Annotated[Count, Field(ge=8)] = 1024
    """Tokens of one training sequence; examples are packed into sequences of this length."""
    max_samples: Positive | None = None
    """Use only the first so many examples."""
    eval_fraction: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of the sequences that is held out for evaluation."""
    completion_only: bool = True
    """Train only on completions and assistant messages, not on prompts."""


class Launcher(Group):
    """How the worker processes are started."""

    type: Literal["torchrun", "inprocess"] = "torchrun"
    """torchrun: processes of their own; inprocess: this one."""
    nproc_per_node: Positive | None = None
    """Worker processes; null means one for each GPU seen, or 1 without a GPU."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto: CUDA where a GPU and a CUDA build of PyTorch are there, otherwise the CPU."""
    env: Texts = {}
    """Further environment variables of the workers."""
    hang_timeout_s: Annotated[Number, Field(gt=0)] | None = 1800.0
    """Seconds without any sign of life while training until the run is ended as hung; null waits for ever."""


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


class Tracking(Group):
    """MLflow."""

    uri: str | None = None
    """Tracking URI; null means the sqlite store outputs/mlflow.db."""
    experiment: str = "zpipe"
    """Name of the MLflow experiment."""
    run_name: str | None = None
    """Name of the MLflow run; null lets zpipe say stage, offload and precision."""
    tags: Texts = {}
    """Tags of the MLflow run."""
    enabled: bool = True
    """Whether the run is recorded in MLflow at all."""
