"""Everything else that DeepSpeed reads from its JSON, under `deepspeed.`, in its own names.

Upstream: deepspeed/runtime/config.py, deepspeed/runtime/constants.py, deepspeed/monitor/config.py,
deepspeed/runtime/tensor_parallel/config.py, deepspeed/inference/config.py.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.batch import Positive

CommunicationDType = Literal["fp32", "fp16", "bf16"]


class TensorParallel(Group):
    """AutoTP: layers split over the GPUs of a group."""

    autotp_size: Annotated[Count, Field(ge=0)] | None = None
    """Ranks that share one model; 0 is off."""
    preset_model: Literal["llama", "bloom", "chatglm", "mixtral", "deepseek_v2", "qwen2", "phi3"] | None = (
        None
    )
    """A built-in plan of which layers are split how."""
    partition_config: dict[str, Any] | None = None
    """A plan of your own: use_default_specs and layer_specs."""
    tp_overlap_comm: bool | None = None
    """Overlap all-reduce and computation."""
    vocab_parallel_lm_head: bool | None = None
    """Split the vocabulary of the language-model head."""
    vocab_parallel_ce_backend: Literal["torch", "liger"] | None = None
    """Cross-entropy over the split vocabulary."""
    dtype: CommunicationDType | None = None
    """Format of the split layers."""
    tp: dict[str, Any] | None = None
    """tp_size and tp_grain_size of the parser."""
    injection_policy_tuple: list[str] | None = None
    """Layers whose output is reduced, for models without a plan."""
    keep_module_on_host: bool | None = None
    """Keep the split layers on the host until they are moved."""
    kernel_inject: bool | None = None
    """Replace layers by inference kernels."""


class TensorBoard(Group):
    """DeepSpeed's TensorBoard monitor."""

    enabled: bool | None = None
    """Write TensorBoard files."""
    output_path: str | None = None
    """Folder of the files."""
    job_name: str | None = None
    """Folder below it."""


class CsvMonitor(Group):
    """DeepSpeed's CSV monitor."""

    enabled: bool | None = None
    """Write CSV files."""
    output_path: str | None = None
    """Folder of the files."""
    job_name: str | None = None
    """Folder below it."""


class Wandb(Group):
    """DeepSpeed's Weights & Biases monitor."""

    enabled: bool | None = None
    """Log to Weights & Biases."""
    group: str | None = None
    """Group of runs."""
    team: str | None = None
    """Team."""
    project: str | None = None
    """Project."""


class Comet(Group):
    """DeepSpeed's Comet monitor."""

    enabled: bool | None = None
    """Log to Comet."""
    samples_log_interval: Positive | None = None
    """Samples between two reports."""
    project: str | None = None
    """Project."""
    workspace: str | None = None
    """Workspace."""
    api_key: str | None = None
    """API key; better in COMET_API_KEY."""
    experiment_name: str | None = None
    """Name of the experiment."""
    experiment_key: str | None = None
    """Key of an existing experiment."""
    online: bool | None = None
    """Log to the server, not to a local file."""
    mode: Literal["get", "create", "get_or_create"] | None = None
    """How the experiment is opened."""


class HybridEngine(Group):
    """DeepSpeed-Chat's engine that switches between training and generation."""

    enabled: bool | None = None
    """Switch."""
    max_out_tokens: Positive | None = None
    """Tokens that a generation may have."""
    inference_tp_size: Positive | None = None
    """Tensor-parallel size of generation."""
    release_inference_cache: bool | None = None
    """Free the cache after generation."""
    pin_parameters: bool | None = None
    """Keep parameters on the GPU during generation."""
    tp_gather_partition_size: Positive | None = None
    """Layers gathered at a time."""
    enable_cuda_graph: bool | None = None
    """Generate through a CUDA graph."""


class WeightQuantization(Group):
    """Weight-only quantisation of inference."""

    enabled: bool | None = None
    """Quantise."""
    num_bits: Positive | None = None
    """Bits of a weight."""
    q_type: Literal["asymmetric", "symmetric"] | None = None
    """Kind of quantisation."""
    q_groups: Positive | None = None
    """Groups that share a scale."""
    quantized_initialization: dict[str, Any] | None = None
    """Quantise while the model is made."""
    post_init_quant: dict[str, Any] | None = None
    """Quantise after the model is loaded."""


class DeepSpeed(Group):
    """Top-level keys and blocks of DeepSpeed's JSON that belong to no other group."""

    prescale_gradients: bool | None = None
    """Scale gradients before the reduction, not after it."""
    gradient_predivide_factor: Annotated[Number, Field(gt=0)] | None = None
    """Factor by which gradients are divided before the reduction, without prescale_gradients."""
    gradient_allreduce_op: Literal["mean", "sum"] | None = None
    """What the reduction of gradients computes."""
    zero_allow_untested_optimizer: bool | None = None
    """Let ZeRO run with optimizers that DeepSpeed does not list; null sets it where it is needed."""
    zero_force_ds_cpu_optimizer: bool | None = None
    """Insist on DeepSpeed's CPU optimizers under offload."""
    disable_allgather: bool | None = None
    """Read by DeepSpeed and used nowhere."""
    disable_python_gc: bool | None = None
    """Turn Python's garbage collector off while training."""
    dump_state: bool | None = None
    """Print the engine's whole configuration at the start."""
    steps_per_print: Positive | None = None
    """Steps between two progress lines of DeepSpeed's."""
    log_level: Literal["debug", "info", "warning", "error", "critical"] | None = None
    """Level of DeepSpeed's own log."""
    vocabulary_size: Positive | None = None
    """Warn where it is no multiple of 8."""
    managed_gradient_accumulation: bool | None = None
    """Let the engine count micro-batches."""
    dataloader_drop_last: bool | None = None
    """Drop the last incomplete batch of DeepSpeed's own data loader."""
    use_data_before_expert_parallelism: bool | None = None
    """Order of the groups of data and expert parallelism."""
    seq_parallel_communication_data_type: CommunicationDType | None = None
    """Format of reductions over a sequence-parallel group."""
    sequence_parallel_size: Positive | None = None
    """Ranks that share a sequence."""
    data_parallel_size: Positive | None = None
    """Ranks of data parallelism, for a device mesh."""
    tensor_parallel: TensorParallel = Field(default_factory=TensorParallel)
    tensorboard: TensorBoard = Field(default_factory=TensorBoard)
    csv_monitor: CsvMonitor = Field(default_factory=CsvMonitor)
    wandb: Wandb = Field(default_factory=Wandb)
    comet: Comet = Field(default_factory=Comet)
    hybrid_engine: HybridEngine = Field(default_factory=HybridEngine)
    weight_quantization: WeightQuantization = Field(default_factory=WeightQuantization)
    autotuning: dict[str, Any] | None = None
    """DeepSpeed's autotuner, which its own launcher runs."""
    data_efficiency: dict[str, Any] | None = None
    """Curriculum learning and random layer-token dropping, in DeepSpeed's own data loader."""
    pipeline: dict[str, Any] | None = None
    """Pipeline parallelism of a PipelineModule."""
    expert_parallel: dict[str, Any] | None = None
    """AutoEP: experts of a mixture-of-experts model over the ranks."""
    datastates_ckpt: dict[str, Any] | None = None
    """The DataStates checkpoint engine."""
