"""ZeRO: DeepSpeed's `zero_optimization` block, with DeepSpeed's names, without the offload blocks.

A key left at null is not written to the JSON, so DeepSpeed's default applies; `auto` is computed.
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
    """Suffixes of the modules' names."""


class Stage(Group):
    """Which of optimizer states, gradients and parameters ZeRO partitions, and how."""

    stage: ZeroStage = 2
    """What is partitioned. 0: nothing; 1: optimizer states; 2: also gradients; 3: also parameters."""
    contiguous_gradients: bool | None = None
    """Copy gradients into one contiguous buffer as they are produced."""
    reduce_scatter: bool | None = None
    """Average gradients with a reduce-scatter instead of an all-reduce."""
    reduce_bucket_size: Auto | PositiveElements | None = None
    """Elements reduced at a time."""
    use_multi_rank_bucket_allreduce: bool | None = None
    """Merge the reduce buckets of several ranks into one all-reduce (stages 1 and 2)."""
    allgather_partitions: bool | None = None
    """Gather updated parameters with an all-gather instead of several broadcasts (stages 1 and 2)."""
    allgather_bucket_size: Elements | None = None
    """Elements gathered at a time (stages 1 and 2)."""
    overlap_comm: bool | None = None
    """Overlap gradient reduction with the backward pass; DeepSpeed's default is true only at stage 3."""
    compute_grad_norm: bool | None = None
    """Compute the global gradient norm (stages 1 and 2); false requires clipping to be off."""
    load_from_fp32_weights: bool | None = None
    """Restore fp32 master weights from the fp32 copies in a checkpoint."""
    elastic_checkpoint: bool | None = None
    """Write legacy checkpoints that another world size can load (stages 1 and 2)."""
    sub_group_size: Auto | Elements | None = None
    """Elements that the optimizer updates at a time (stage 3)."""
    stage3_prefetch_bucket_size: Auto | Elements | None = None
    """Elements prefetched before they are used (stage 3)."""
    stage3_param_persistence_threshold: Auto | Elements | None = None
    """Parameters with fewer elements than this are not partitioned (stage 3)."""
    stage3_model_persistence_threshold: Elements | None = None
    """Upper bound on the total of unpartitioned elements (stage 3)."""
    stage3_max_live_parameters: Elements | None = None
    """Elements that may be gathered at the same time before some are released (stage 3)."""
    stage3_max_reuse_distance: Auto | Elements | None = None
    """Keep a parameter gathered if it is used again within this many elements (stage 3)."""
    stage3_gather_16bit_weights_on_model_save: bool | None = None
    """Gather the full weights when the model is saved (stage 3)."""
    stage3_module_granularity_threshold: Elements | None = None
    """Fetch modules with a lower granularity than this as one unit (stage 3)."""
    stage3_use_all_reduce_for_fetch_params: bool | None = None
    """Fetch parameters with an all-reduce (stage 3)."""
    stage3_allgather_sequential: bool | None = None
    """Gather parameters one at a time, without a flat buffer (stage 3)."""
    ignore_unused_parameters: bool | None = None
    """Continue if a parameter received no gradient (stage 2)."""
    legacy_stage1: bool | None = None
    """Use the old implementation of stage 1."""
    round_robin_gradients: bool | None = None
    """Distribute the copying of gradients to host memory across ranks (stages 1 and 2)."""
    parameter_alignment: bool | None = None
    """Align each parameter in the flat buffers to 16 bytes (stages 1 and 2)."""
    zero_hpz_partition_size: Auto | Annotated[Count, Field(ge=1)] | None = None
    """ZeRO++: ranks of a secondary partition group; auto is the GPUs of one node (stage 3)."""
    zero_quantized_weights: bool | None = None
    """ZeRO++: quantize weights for the all-gather (stage 3)."""
    zero_quantized_nontrainable_weights: bool | None = None
    """Keep frozen weights quantized (stage 3, fp16)."""
    zero_quantized_gradients: bool | None = None
    """ZeRO++: quantize gradients for the reduction (stage 3)."""
    memory_efficient_linear: bool | None = None
    """Use the memory-efficient linear layer (stage 3)."""
    pipeline_loading_checkpoint: bool | None = None
    """Overlap reading and partitioning when loading a checkpoint (stage 3)."""
    override_module_apply: bool | None = None
    """Gather parameters inside nn.Module.apply (stage 3)."""
    log_trace_cache_warnings: bool | None = None
    """Log when the order of module calls changes (stage 3)."""
    enable_sanity_checks: bool | None = None
    """Enable DeepSpeed's internal checks, for debugging."""
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
"""Keys that DeepSpeed reads only at stage 3 and silently ignores at other stages."""

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
"""Keys that DeepSpeed reads only at stages 1 and 2."""


def keys_without_effect(stage: Stage) -> list[str]:
    """Keys that are set although DeepSpeed ignores them at this stage."""
    given = set(stage.given(without={"stage", "leaf_module", "zenflow"}))
    if stage.stage == 0:
        return sorted(given)
    return sorted(given & (STAGES_1_AND_2_ONLY if stage.stage == 3 else STAGE3_ONLY))
