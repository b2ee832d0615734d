"""What DeepSpeed's engine does beside ZeRO: activation checkpointing, compilation, profiling.

Upstream: deepspeed/runtime/activation_checkpointing/config.py, deepspeed/compile/config.py,
deepspeed/profiling/config.py, deepspeed/comm/config.py, deepspeed/utils/config.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.batch import Positive


class ActivationCheckpointing(Group):
    """DeepSpeed's own activation checkpointing; transformers' is `train.gradient_checkpointing`."""

    enabled: bool = False
    """Recompute activations through deepspeed.checkpointing, which the other keys configure."""
    partition_activations: bool | None = None
    """Split each saved activation over the ranks of a model-parallel group."""
    cpu_checkpointing: bool | None = None
    """Keep saved activations in host memory."""
    contiguous_memory_optimization: bool | None = None
    """Copy saved activations into one buffer; needs partition_activations and number_checkpoints."""
    number_checkpoints: Positive | None = None
    """Checkpoints in one forward pass, normally the number of layers."""
    synchronize_checkpoint_boundary: bool | None = None
    """Synchronise the device at each checkpoint."""
    profile: bool | None = None
    """Log the time of each checkpoint."""


class Compile(Group):
    """DeepCompile; `train.torch_compile` is PyTorch's compilation, which it needs."""

    deepcompile: bool | None = None
    """Let DeepSpeed's passes rewrite the compiled graph."""
    passes: list[Literal["z1", "z3", "autosp", "autotp"]] | None = None
    """Passes to run; null leaves the choice to DeepSpeed."""
    free_activation: bool | None = None
    """Free large activations early."""
    free_activation_threshold: Annotated[Count, Field(ge=0)] | None = None
    """Bytes from which an activation counts as large."""
    offload_activation: bool | None = None
    """Keep saved activations in host memory; excludes offload_parameters and offload_opt_states."""
    offload_activation_pin_memory: bool | None = None
    """Page-locked host memory for them."""
    offload_opt_states: bool | None = None
    """Keep optimizer states in host memory outside the step; excludes offload_parameters."""
    offload_parameters: bool | None = None
    """Keep parameters in host memory until they are used."""
    double_buffer: bool | None = None
    """Two buffers, so that reduction and backward pass overlap."""
    symmetric_memory: bool | None = None
    """Communicate through PyTorch's symmetric memory."""
    autoep_non_moe: bool | None = None
    """Compile the parents of AutoEP layers and leave those eager."""
    debug_log: bool | None = None
    """Write the graphs out."""
    sync_before_reduce: bool | None = None
    """Synchronise before each reduction, for debugging."""
    sync_after_reduce: bool | None = None
    """Synchronise after each reduction, for debugging."""
    sync_before_allgather: bool | None = None
    """Synchronise before each all-gather, for debugging."""
    sync_after_allgather: bool | None = None
    """Synchronise after each all-gather, for debugging."""
    keep_int_input_tensors: bool | None = None
    """Keep the values of integer inputs for recompilation."""
    keep_all_input_tensors: bool | None = None
    """Keep the values of all inputs for recompilation."""


class FlopsProfiler(Group):
    """Counts floating-point operations at one step and prints them by module."""

    enabled: bool | None = None
    """Profile; it also turns wall_clock_breakdown on."""
    profile_step: Positive | None = None
    """The step that is profiled."""
    module_depth: Annotated[Count, Field(ge=-1)] | None = None
    """Depth of the printed modules; -1 is the innermost."""
    top_modules: Positive | None = None
    """Modules that are printed at each depth."""
    detailed: bool | None = None
    """Print each module."""
    output_file: str | None = None
    """File for the report; null prints it to the rank's log."""
    recompute_fwd_factor: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Share of the forward pass that is recomputed: 1.0 with full checkpointing."""


class CommsLogger(Group):
    """Logs collectives with their sizes, times and bandwidths."""

    enabled: bool | None = None
    """Log collectives."""
    prof_all: bool | None = None
    """All operations, instead of those in prof_ops."""
    prof_ops: list[str] | None = None
    """Names of the operations to log."""
    verbose: bool | None = None
    """Log each call as it happens."""
    debug: bool | None = None
    """Name the caller of each operation."""


class ThroughputTimer(Group):
    """DeepSpeed's throughput timer."""

    enabled: bool | None = None
    """Measure; zpipe measures by itself in any case."""
    synchronized: bool | None = None
    """Synchronise the device for exact times, at the cost of speed."""


class Timers(Group):
    """DeepSpeed's timers."""

    throughput: ThroughputTimer = Field(default_factory=ThroughputTimer)


class Profiler(Group):
    """What DeepSpeed measures and prints to the ranks' logs."""

    flops_profiler: FlopsProfiler = Field(default_factory=FlopsProfiler)
    comms_logger: CommsLogger = Field(default_factory=CommsLogger)
    timers: Timers = Field(default_factory=Timers)
    wall_clock_breakdown: bool | None = None
    """Time forward, backward and step apart; it synchronises the device and so costs speed."""
    memory_breakdown: bool | None = None
    """Log memory at the stations of a step."""
