"""ZeRO: DeepSpeed's `zero_optimization` block, in DeepSpeed's own names, without the offload blocks.

A key left at null is not written to the JSON, so DeepSpeed's default applies; `auto` is worked out.
Upstream: deepspeed/runtime/zero/config.py, DeepSpeedZeroConfig.
"""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Auto, Count, Group
from zpipe.schema.zenflow import ZenFlow

ZeroStage = Literal[0, 1, 2, 3]
Elements = Annotated[Count, Field(ge=0)]
PositiveElements = Annotated[Count, Field(gt=0)]


class LeafModule(Group):
    """Modules that stage 3 fetches as one unit."""

    classes: list[str] | None = None
    """Class names of the modules."""
    names: list[str] | None = None
    """Full names of the modules."""
    name_suffixes: list[str] | None = None
    """Ends of the modules' names."""


class Stage(Group):
    """Which of optimizer states, gradients and parameters ZeRO partitions, and how."""

    stage: ZeroStage = 2
    """0: nothing; 1: optimizer states; 2: and gradients; 3: and parameters."""
    contiguous_gradients: bool | None = None
    """Copy gradients to one contiguous buffer as they are produced."""
    reduce_scatter: bool | None = None
    """Average gradients by reduce-scatter instead of all-reduce."""
    reduce_bucket_size: Auto | PositiveElements | None = None
    """Elements reduced at a time."""
    use_multi_rank_bucket_allreduce: bool | None = None
    """Merge the reduce buckets of several ranks into one all-reduce (stages 1 and 2)."""
    allgather_partitions: bool | None = None
    """Gather updated parameters by all-gather instead of a series of broadcasts (stages 1 and 2)."""
    allgather_bucket_size: Elements | None = None
    """Elements gathered at a time (stages 1 and 2)."""
    overlap_comm: bool | None = None
    """Overlap gradient reduction with the backward pass; DeepSpeed's default is true only at stage 3."""
    compute_grad_norm: bool | None = None
    """Keep the global gradient norm (stages 1 and 2); false needs clipping off."""
    load_from_fp32_weights: bool | None = None
    """Restore fp32 master weights from the fp32 copies of a checkpoint."""
    elastic_checkpoint: bool | None = None
    """Legacy checkpoints for another world size (stages 1 and 2)."""
    sub_group_size: Auto | Elements | None = None
    """Elements that the optimizer updates at a time (stage 3)."""
    stage3_prefetch_bucket_size: Auto | Elements | None = None
    """Elements fetched ahead of their use (stage 3)."""
    stage3_param_persistence_threshold: Auto | Elements | None = None
    """Parameters below this many elements are not partitioned (stage 3)."""
    stage3_model_persistence_threshold: Elements | None = None
    """Upper bound of all unpartitioned elements together (stage 3)."""
    stage3_max_live_parameters: Elements | None = None
    """Elements that may be gathered at a time before some are released (stage 3)."""
    stage3_max_reuse_distance: Auto | Elements | None = None
    """Keep a parameter that is used again within this many elements (stage 3)."""
    stage3_gather_16bit_weights_on_model_save: bool | None = None
    """Gather the whole weights when the model is saved (stage 3)."""
    stage3_module_granularity_threshold: Elements | None = None
    """Treat modules finer than this as one unit when fetching (stage 3)."""
    stage3_use_all_reduce_for_fetch_params: bool | None = None
    """Fetch parameters by all-reduce (stage 3)."""
    stage3_allgather_sequential: bool | None = None
    """Gather parameter by parameter, without a flat buffer (stage 3)."""
    ignore_unused_parameters: bool | None = None
    """Go on when a parameter got no gradient (stage 2)."""
    legacy_stage1: bool | None = None
    """Use the old implementation of stage 1."""
    round_robin_gradients: bool | None = None
    """Spread the copying of gradients to host memory over the ranks (stages 1 and 2)."""
    parameter_alignment: bool | None = None
    """Align each parameter in the flat buffers to 16 bytes (stages 1 and 2)."""
    zero_hpz_partition_size: Annotated[Count, Field(ge=1)] | None = None
    """ZeRO++: ranks of a secondary partition group, normally the GPUs of one node (stage 3)."""
    zero_quantized_weights: bool | None = None
    """ZeRO++: quantise weights for the all-gather (stage 3)."""
    zero_quantized_nontrainable_weights: bool | None = None
    """Keep frozen weights quantised (stage 3, fp16)."""
    zero_quantized_gradients: bool | None = None
    """ZeRO++: quantise gradients for the reduction (stage 3)."""
    memory_efficient_linear: bool | None = None
    """Use the linear layer that saves memory (stage 3)."""
    pipeline_loading_checkpoint: bool | None = None
    """Overlap reading and partitioning of a checkpoint (stage 3)."""
    override_module_apply: bool | None = None
    """Gather parameters inside nn.Module.apply (stage 3)."""
    log_trace_cache_warnings: bool | None = None
    """Log when the order of module calls changed (stage 3)."""
    enable_sanity_checks: bool | None = None
    """DeepSpeed's internal checks, for debugging."""
    save_muon_momentum_buffer_in_memory: bool | None = None
    """Keep Muon's momentum in memory under NVMe offload (stage 3)."""
    leaf_module: LeafModule = Field(default_factory=LeafModule)
    zenflow: ZenFlow = Field(default_factory=ZenFlow)


STAGE3_ONLY = frozenset(name for name in Stage.model_fields if name.startswith("stage3_")) | {
    "sub_group_size",
    "zero_hpz_partition_size",
    "zero_quantized_weights",
    "zero_quantized_nontrainable_weights",
    "zero_quantized_gradients",
    "memory_efficient_linear",
    "pipeline_loading_checkpoint",
    "override_module_apply",
    "log_trace_cache_warnings",
    "save_muon_momentum_buffer_in_memory",
}
"""Keys that DeepSpeed reads at stage 3 alone and ignores elsewhere without a word."""

STAGES_1_AND_2_ONLY = frozenset(
    {
        "allgather_partitions",
        "allgather_bucket_size",
        "use_multi_rank_bucket_allreduce",
        "round_robin_gradients",
        "parameter_alignment",
        "compute_grad_norm",
        "elastic_checkpoint",
    }
)
"""Keys that DeepSpeed reads at stages 1 and 2 alone."""


def keys_without_effect(stage: Stage) -> list[str]:
    """Keys that were given and that DeepSpeed ignores at this stage."""
    given = set(stage.model_dump(exclude_none=True, exclude={"stage", "leaf_module", "zenflow"}))
    if stage.stage == 0:
        return sorted(given)
    return sorted(given & (STAGES_1_AND_2_ONLY if stage.stage == 3 else STAGE3_ONLY))
