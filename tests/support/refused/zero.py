"""Precision, stage and offload, beyond the basics."""

from tests.support.planning import CPU
from tests.support.refused.rows import FOUR_GPUS, ONE_GPU, Row

ROWS: list[Row] = [
    # precision
    (
        ["precision=bf16", "precision.data_types.param_dtype=fp32"],
        "precision.data_types.param_dtype",
        CPU,
    ),
    (
        ["precision=bf16", "precision.data_types.grad_accum_dtype=fp16"],
        "precision.data_types.grad_accum_dtype",
        CPU,
    ),
    (
        ["precision=fp16", "precision.fp16.fp16_master_weights_and_grads=true"],
        "precision.fp16.fp16_master_weights_and_grads",
        ONE_GPU,
    ),
    (
        ["precision=bf16", "precision.bf16.bf16_optimizer_states=true"],
        "precision.bf16.bf16_optimizer_states",
        ONE_GPU,
    ),
    (
        [
            "precision=bf16",
            "stage=0",
            "precision.bf16.bf16_optimizer_states=true",
            "precision.bf16.bf16_master_weights_and_grads=true",
        ],
        "precision.bf16.bf16_optimizer_states",
        ONE_GPU,
    ),
    (
        ["precision=bf16", "stage=3", "precision.bf16.check_grad_overflow=false"],
        "precision.bf16.check_grad_overflow",
        CPU,
    ),
    (["stage=0", "precision.fp16.initial_scale_power=8"], "precision.fp16.initial_scale_power", CPU),
    (
        ["stage=0", "precision=bf16", "precision.bf16.bf16_master_weights_and_grads=true"],
        "precision.bf16.bf16_master_weights_and_grads",
        CPU,
    ),
    (
        ["precision=bf16", "precision.bf16.immediate_grad_update=true"],
        "precision.bf16.immediate_grad_update",
        CPU,
    ),
    (
        [
            "precision=bf16",
            "precision.torch_autocast.enabled=true",
            "precision.torch_autocast.dtype=float16",
        ],
        "precision.torch_autocast.dtype",
        CPU,
    ),
    (
        [
            "precision=fp16",
            "precision.torch_autocast.enabled=true",
            "precision.torch_autocast.dtype=bfloat16",
        ],
        "precision.torch_autocast.enabled",
        ONE_GPU,
    ),
    (
        ["precision=fp32", "precision.torch_autocast.enabled=true"],
        "precision.torch_autocast.dtype",
        CPU,
    ),
    (["precision.torch_autocast.dtype=bfloat16"], "precision.torch_autocast.dtype", CPU),
    (
        [
            "stage=1",
            "precision=bf16",
            "precision.data_types.grad_accum_dtype=fp32",
            "precision.bf16.check_grad_overflow=false",
        ],
        "precision.bf16.check_grad_overflow",
        ONE_GPU,
    ),
    # stage
    (["stage=1", "stage.legacy_stage1=true"], "stage.legacy_stage1", CPU),
    (
        ["stage=2", "offload=cpu_optimizer", "stage.contiguous_gradients=false"],
        "stage.contiguous_gradients",
        CPU,
    ),
    (
        [
            "stage=2",
            "offload=cpu_optimizer",
            "stage.compute_grad_norm=false",
            "train.max_grad_norm=0",
        ],
        "stage.compute_grad_norm",
        CPU,
    ),
    (
        [
            "stage=1",
            "precision=bf16",
            "precision.data_types.grad_accum_dtype=fp32",
            "stage.compute_grad_norm=false",
            "train.max_grad_norm=0",
        ],
        "stage.compute_grad_norm",
        CPU,
    ),
    (["stage=3", "zeropp=quantized"], "stage.zero_quantized_weights", ONE_GPU),
    (
        ["stage=3", "zeropp=quantized", "launcher.nproc_per_node=2"],
        "stage.zero_quantized_weights",
        CPU,
    ),
    (
        [
            "stage=3",
            "zeropp=quantized",
            "precision=fp32",
            "precision.torch_autocast.enabled=true",
            "precision.torch_autocast.dtype=bfloat16",
        ],
        "stage.zero_quantized_weights",
        FOUR_GPUS,
    ),
    (["stage=2", "offload=cpu_optimizer", "stage.zenflow.topk_ratio=0.1"], "stage.zenflow.topk_ratio", CPU),
    (["stage=0", "stage.memory_efficient_linear=true"], "stage.memory_efficient_linear", CPU),
    (["stage=3", "offload=nvme", "stage.round_robin_gradients=true"], "stage.round_robin_gradients", CPU),
    (["stage=2", "stage.leaf_module.names=[a]"], "stage.leaf_module.names", CPU),
    (
        ["stage=3", "stage.stage3_allgather_sequential=true", "stage.stage3_prefetch_bucket_size=5e7"],
        "stage.stage3_prefetch_bucket_size",
        FOUR_GPUS,
    ),
    (
        ["stage=3", "offload=nvme", "stage.stage3_allgather_sequential=true"],
        "stage.stage3_allgather_sequential",
        ONE_GPU,
    ),
    # offload
    (
        ["offload=cpu_optimizer", "offload.offload_optimizer.cpuadam_cores_perc=0.5"],
        "offload.offload_optimizer.cpuadam_cores_perc",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "offload.offload_optimizer.super_offload=true"],
        "offload.offload_optimizer.super_offload",
        ONE_GPU,
    ),
    (
        ["stage=3", "offload=cpu", "optimizer=lion", "offload.offload_optimizer.super_offload=true"],
        "offload.offload_optimizer.super_offload",
        ONE_GPU,
    ),
    (
        ["stage=3", "offload=cpu", "optimizer=lion", "offload.offload_optimizer.ratio=0.5"],
        "offload.offload_optimizer.ratio",
        ONE_GPU,
    ),
    (["stage=3", "offload=nvme", "offload.aio.use_gds=true"], "offload.aio.use_gds", CPU),
]
