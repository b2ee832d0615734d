"""Settings of DeepSpeed's engine besides ZeRO: activation checkpointing, compilation, profiling.

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
    """Partition each saved activation across the ranks of a model-parallel group."""
    cpu_checkpointing: bool | None = None
    """Keep saved activations in host memory."""
    contiguous_memory_optimization: bool | None = None
    """Copy saved activations into one buffer; needs partition_activations and number_checkpoints."""
    number_checkpoints: Positive | None = None
    """Activation checkpoints in one forward pass, normally the number of layers."""
    synchronize_checkpoint_boundary: bool | None = None
    """Synchronize the device at each activation checkpoint."""
    profile: bool | None = None
    """Log the time of each activation checkpoint."""


class Compile(Group):
    """What `train.torch_compile` compiles: the whole model, a layer of each kind, or DeepCompile's graph."""

    regional: bool | None = None
    """Compile one layer of each kind, not the whole model; replaces DeepSpeed's engine.compile."""
    deepcompile: bool | None = None
    """Let DeepSpeed's passes rewrite the compiled graph."""
    passes: list[Literal["z1", "z3", "autosp", "autotp"]] | None = None
    """Passes to run; null lets DeepSpeed choose."""
    free_activation: bool | None = None
    """Free large activations early."""
    free_activation_threshold: Annotated[Count, Field(ge=0)] | None = None
    """Minimum size in bytes of a large activation."""
    offload_activation: bool | None = None
    """Keep saved activations in host memory; incompatible with offload_parameters and offload_opt_states."""
    offload_activation_pin_memory: bool | None = None
    """Use page-locked host memory for offloaded activations."""
    offload_opt_states: bool | None = None
    """Keep optimizer states in host memory outside the step; incompatible with offload_parameters."""
    offload_parameters: bool | None = None
    """Keep parameters in host memory until they are needed."""
    double_buffer: bool | None = None
    """Use two buffers, so that the reduction overlaps with the backward pass."""
    symmetric_memory: bool | None = None
    """Communicate through PyTorch's symmetric memory."""
    autoep_non_moe: bool | None = None
    """Compile the parents of AutoEP layers and run the layers themselves eagerly."""
    debug_log: bool | None = None
    """Dump the graphs."""
    sync_before_reduce: bool | None = None
    """Synchronize before each reduction, for debugging."""
    sync_after_reduce: bool | None = None
    """Synchronize after each reduction, for debugging."""
    sync_before_allgather: bool | None = None
    """Synchronize before each all-gather, for debugging."""
    sync_after_allgather: bool | None = None
    """Synchronize after each all-gather, for debugging."""
    keep_int_input_tensors: bool | None = None
    """Keep the values of integer inputs for recompilation."""
    keep_all_input_tensors: bool | None = None
    """Keep the values of all inputs for recompilation."""


class FlopsProfiler(Group):
    """Counts floating-point operations at one step and prints them for each module."""

    enabled: bool | None = None
    """Enable the profiler, which also turns on wall_clock_breakdown."""
    profile_step: Positive | None = None
    """Step to profile."""
    module_depth: Annotated[Count, Field(ge=-1)] | None = None
    """Depth of the printed modules; -1 means the innermost."""
    top_modules: Positive | None = None
    """Modules to print at each depth."""
    detailed: bool | None = None
    """Print every module."""
    output_file: str | None = None
    """File for the report; null prints it to the rank's log."""
    recompute_fwd_factor: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Fraction of the forward pass that is recomputed: 1.0 with full checkpointing."""


class CommsLogger(Group):
    """Logs collectives with their sizes, times and bandwidths."""

    enabled: bool | None = None
    """Log collectives."""
    prof_all: bool | None = None
    """Log all operations instead of those in prof_ops."""
    prof_ops: list[str] | None = None
    """Names of the operations to log."""
    verbose: bool | None = None
    """Log each call as it happens."""
    debug: bool | None = None
    """Name the caller of each operation."""


class ThroughputTimer(Group):
    """DeepSpeed's throughput timer, which is off: zpipe measures without waiting for the device."""

    enabled: bool = False
    """Measure throughput a second time; DeepSpeed's default is true."""
    synchronized: bool | None = None
    """Wait for the device before and after each micro-batch, which DeepSpeed does by default."""


class Timers(Group):
    """DeepSpeed's timers."""

    throughput: ThroughputTimer = Field(default_factory=ThroughputTimer)


class Profiler(Group):
    """Measurements that DeepSpeed prints to the ranks' logs."""

    flops_profiler: FlopsProfiler = Field(default_factory=FlopsProfiler)
    comms_logger: CommsLogger = Field(default_factory=CommsLogger)
    timers: Timers = Field(default_factory=Timers)
    wall_clock_breakdown: bool | None = None
    """Time forward, backward and step separately, which synchronizes the device and slows training."""
    memory_breakdown: bool | None = None
    """Log memory usage at several points of a step."""
