"""The remaining keys of DeepSpeed's JSON, under `deepspeed.`, with DeepSpeed's names.

Upstream: deepspeed/runtime/config.py, deepspeed/runtime/constants.py, deepspeed/monitor/config.py,
deepspeed/runtime/tensor_parallel/config.py, deepspeed/inference/config.py.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.batch import Positive

CommunicationDType = Literal["fp32", "fp16", "bf16"]


class TensorParallel(Group):
    """AutoTP: splits layers across the GPUs of a group."""

    autotp_size: Annotated[Count, Field(ge=0)] | None = None
    """Ranks that share one model; 0 means no tensor parallelism."""
    preset_model: Literal["llama", "bloom", "chatglm", "mixtral", "deepseek_v2", "qwen2", "phi3"] | None = (
        None
    )
    """Built-in partition plan of a model family."""
    partition_config: dict[str, Any] | None = None
    """Custom partition plan: use_default_specs and layer_specs."""
    tp_overlap_comm: bool | None = None
    """Overlap the all-reduce with computation."""
    vocab_parallel_lm_head: bool | None = None
    """Split the language-model head along the vocabulary."""
    vocab_parallel_ce_backend: Literal["torch", "liger"] | None = None
    """Implementation of the cross-entropy over the split vocabulary."""
    dtype: CommunicationDType | None = None
    """Dtype of the split layers."""
    tp: dict[str, Any] | None = None
    """tp_size and tp_grain_size of AutoTP's model parser."""
    injection_policy_tuple: list[str] | None = None
    """Layers whose output is all-reduced, for models without a partition plan."""
    keep_module_on_host: bool | None = None
    """Keep the split layers in host memory until they are moved to the GPU."""
    kernel_inject: bool | None = None
    """Replace layers with inference kernels."""


class TensorBoard(Group):
    """DeepSpeed's TensorBoard monitor."""

    enabled: bool | None = None
    """Write TensorBoard files."""
    output_path: str | None = None
    """Folder for the files."""
    job_name: str | None = None
    """Subfolder of output_path."""


class CsvMonitor(Group):
    """DeepSpeed's CSV monitor."""

    enabled: bool | None = None
    """Write CSV files."""
    output_path: str | None = None
    """Folder for the files."""
    job_name: str | None = None
    """Subfolder of output_path."""


class Wandb(Group):
    """DeepSpeed's Weights & Biases monitor."""

    enabled: bool | None = None
    """Log to Weights & Biases."""
    group: str | None = None
    """Group that the run belongs to."""
    team: str | None = None
    """Weights & Biases team."""
    project: str | None = None
    """Weights & Biases project."""


class Comet(Group):
    """DeepSpeed's Comet monitor."""

    enabled: bool | None = None
    """Log to Comet."""
    samples_log_interval: Positive | None = None
    """Samples between two reports."""
    project: str | None = None
    """Comet project."""
    workspace: str | None = None
    """Comet workspace."""
    api_key: str | None = None
    """API key. Refused, because it would be written to files: export COMET_API_KEY instead."""
    experiment_name: str | None = None
    """Name of the experiment."""
    experiment_key: str | None = None
    """Key of an existing experiment."""
    online: bool | None = None
    """Log to the server instead of a local file."""
    mode: Literal["get", "create", "get_or_create"] | None = None
    """How the experiment is opened."""


class HybridEngine(Group):
    """DeepSpeed-Chat's engine that switches between training and generation."""

    enabled: bool | None = None
    """Enable the hybrid engine."""
    max_out_tokens: Positive | None = None
    """Maximum number of tokens to generate."""
    inference_tp_size: Positive | None = None
    """Tensor-parallel size of generation."""
    release_inference_cache: bool | None = None
    """Free the inference cache after generation."""
    pin_parameters: bool | None = None
    """Keep parameters on the GPU during generation."""
    tp_gather_partition_size: Positive | None = None
    """Layers to gather at a time."""
    enable_cuda_graph: bool | None = None
    """Use a CUDA graph for generation."""


class WeightQuantization(Group):
    """Weight-only quantization for inference."""

    enabled: bool | None = None
    """Enable weight quantization."""
    num_bits: Positive | None = None
    """Bits per weight."""
    q_type: Literal["asymmetric", "symmetric"] | None = None
    """Quantization scheme."""
    q_groups: Positive | None = None
    """Number of groups; the weights of a group share a scale."""
    quantized_initialization: dict[str, Any] | None = None
    """Quantize while the model is created."""
    post_init_quant: dict[str, Any] | None = None
    """Quantize after the model is loaded."""


class DeepSpeed(Group):
    """Top-level keys and blocks of DeepSpeed's JSON that belong to no other group."""

    prescale_gradients: bool | None = None
    """Scale gradients before the reduction instead of after it."""
    gradient_predivide_factor: Annotated[Number, Field(gt=0)] | None = None
    """Divisor of the gradients before the reduction; ignored with prescale_gradients."""
    gradient_allreduce_op: Literal["mean", "sum"] | None = None
    """Operation of the gradient all-reduce."""
    zero_allow_untested_optimizer: bool | None = None
    """Let ZeRO run with optimizers that DeepSpeed does not list as tested; null sets it where needed."""
    zero_force_ds_cpu_optimizer: bool | None = None
    """Require DeepSpeed's CPU optimizers under offload."""
    disable_allgather: bool | None = None
    """Read by DeepSpeed but never used."""
    disable_python_gc: bool | None = None
    """Turn off Python's garbage collector during training."""
    dump_state: bool | None = None
    """Print the engine's configuration at startup."""
    steps_per_print: Positive | None = None
    """Steps between two of DeepSpeed's progress lines."""
    log_level: Literal["debug", "info", "warning", "error", "critical"] | None = None
    """Level of DeepSpeed's log."""
    vocabulary_size: Positive | None = None
    """Vocabulary size; DeepSpeed warns if it is not a multiple of 8."""
    managed_gradient_accumulation: bool | None = None
    """Let the engine count micro-batches."""
    dataloader_drop_last: bool | None = None
    """Drop the last, incomplete batch in DeepSpeed's own data loader."""
    use_data_before_expert_parallelism: bool | None = None
    """Place data-parallel ranks before expert-parallel ranks."""
    seq_parallel_communication_data_type: CommunicationDType | None = None
    """Dtype of reductions within a sequence-parallel group."""
    sequence_parallel_size: Positive | None = None
    """Ranks that share a sequence."""
    data_parallel_size: Positive | None = None
    """Data-parallel ranks of the device mesh."""
    tensor_parallel: TensorParallel = Field(default_factory=TensorParallel)
    tensorboard: TensorBoard = Field(default_factory=TensorBoard)
    csv_monitor: CsvMonitor = Field(default_factory=CsvMonitor)
    wandb: Wandb = Field(default_factory=Wandb)
    comet: Comet = Field(default_factory=Comet)
    hybrid_engine: HybridEngine = Field(default_factory=HybridEngine)
    weight_quantization: WeightQuantization = Field(default_factory=WeightQuantization)
    autotuning: dict[str, Any] | None = None
    """DeepSpeed's autotuner, which only DeepSpeed's launcher runs."""
    data_efficiency: dict[str, Any] | None = None
    """Curriculum learning and random layer-token dropping, in DeepSpeed's own data loader."""
    pipeline: dict[str, Any] | None = None
    """Pipeline parallelism of a PipelineModule."""
    expert_parallel: dict[str, Any] | None = None
    """AutoEP: distributes the experts of a mixture-of-experts model across ranks."""
    datastates_ckpt: dict[str, Any] | None = None
    """The DataStates checkpoint engine."""
