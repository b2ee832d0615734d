"""Activation checkpointing, compilation, profilers and DeepSpeed's remaining keys."""

from tests.support.planning import CPU
from tests.support.refused.rows import FOUR_GPUS, ONE_GPU, Row

ROWS: list[Row] = [
    # engine
    (
        ["activation_checkpointing=deepspeed", "train.gradient_checkpointing=true"],
        "train.gradient_checkpointing",
        CPU,
    ),
    (
        ["activation_checkpointing.cpu_checkpointing=true"],
        "activation_checkpointing.cpu_checkpointing",
        ONE_GPU,
    ),
    (
        [
            "activation_checkpointing=deepspeed",
            "activation_checkpointing.contiguous_memory_optimization=true",
            "activation_checkpointing.number_checkpoints=2",
        ],
        "activation_checkpointing.contiguous_memory_optimization",
        CPU,
    ),
    (
        [
            "activation_checkpointing=deepspeed",
            "activation_checkpointing.contiguous_memory_optimization=true",
            "activation_checkpointing.partition_activations=true",
        ],
        "activation_checkpointing.contiguous_memory_optimization",
        CPU,
    ),
    (["activation_checkpointing=deepspeed_cpu"], "activation_checkpointing.cpu_checkpointing", CPU),
    (["activation_checkpointing.cpu_checkpointing=true"], "activation_checkpointing.cpu_checkpointing", CPU),
    (
        ["profiler.timers.throughput.synchronized=false"],
        "profiler.timers.throughput.synchronized",
        CPU,
    ),
    (["compile.deepcompile=true"], "compile.deepcompile", ONE_GPU),
    (["compile=deepcompile"], "compile.deepcompile", CPU),
    (["compile=deepcompile", "stage=0"], "compile.deepcompile", ONE_GPU),
    (["compile=torch", "compile.free_activation=true"], "compile.free_activation", ONE_GPU),
    (["stage=0", "compile.offload_parameters=true"], "compile.offload_parameters", ONE_GPU),
    (["compile=torch", "compile.autoep_non_moe=true"], "compile.autoep_non_moe", ONE_GPU),
    (
        ["compile=deepcompile", "stage=2", "compile.offload_activation=true"],
        "compile.offload_activation",
        ONE_GPU,
    ),
    (
        ["compile=deepcompile", "stage=3", "offload=cpu_optimizer", "compile.offload_opt_states=true"],
        "compile.offload_opt_states",
        ONE_GPU,
    ),
    (
        ["compile=deepcompile", "stage=3", "offload=cpu", "compile.offload_parameters=false"],
        "compile.offload_parameters",
        ONE_GPU,
    ),
    (["compile=deepcompile", "compile.passes=[autosp]"], "compile.passes", ONE_GPU),
    (["compile=deepcompile", "compile.passes=[autotp,z3]"], "compile.passes", ONE_GPU),
    (["compile=deepcompile", "compile.passes=[autotp]"], "compile.passes", ONE_GPU),
    (
        ["compile=deepcompile", "train.torch_compile_backend=cudagraphs"],
        "train.torch_compile_backend",
        ONE_GPU,
    ),
    (
        [
            "compile=deepcompile",
            "stage=3",
            "compile.offload_parameters=true",
            "compile.offload_activation=true",
        ],
        "compile.offload_parameters",
        ONE_GPU,
    ),
    (["profiler.flops_profiler.module_depth=2"], "profiler.flops_profiler.module_depth", CPU),
    (["profiler.comms_logger.verbose=true"], "profiler.comms_logger.verbose", CPU),
    (
        ["profiler=flops", "profiler.flops_profiler.profile_step=900"],
        "profiler.flops_profiler.profile_step",
        CPU,
    ),
    (
        ["profiler=comms", "profiler.comms_logger.prof_ops=[all_reduce]"],
        "profiler.comms_logger.prof_ops",
        CPU,
    ),
    # DeepSpeed's remaining keys
    *(
        ([f"deepspeed.{name}={value}"], f"deepspeed.{name}", CPU)
        for name, value in {
            "steps_per_print": 10,
            "dataloader_drop_last": "true",
            "disable_allgather": "true",
            "managed_gradient_accumulation": "false",
            "sequence_parallel_size": 2,
            "data_parallel_size": 2,
            "seq_parallel_communication_data_type": "fp32",
            "use_data_before_expert_parallelism": "true",
            "autotuning": "{enabled: true}",
            "data_efficiency": "{enabled: true}",
            "pipeline": "{stages: 2}",
            "expert_parallel": "{enabled: true}",
            "datastates_ckpt": "{host_cache_size: 1}",
            "hybrid_engine.enabled": "true",
            "weight_quantization.num_bits": 8,
            "tensorboard.output_path": "/tmp/tb",
        }.items()
    ),
    (
        ["compile=deepcompile", "deepspeed.managed_gradient_accumulation=false"],
        "deepspeed.managed_gradient_accumulation",
        ONE_GPU,
    ),
    (
        ["stage=3", "deepspeed.gradient_allreduce_op=sum"],
        "deepspeed.gradient_allreduce_op",
        CPU,
    ),
    (
        ["compile=deepcompile", "deepspeed.gradient_allreduce_op=sum"],
        "deepspeed.gradient_allreduce_op",
        ONE_GPU,
    ),
    (["stage=2", "deepspeed.prescale_gradients=true"], "deepspeed.prescale_gradients", CPU),
    (
        ["stage=3", "deepspeed.gradient_predivide_factor=2"],
        "deepspeed.gradient_predivide_factor",
        CPU,
    ),
    (
        ["deepspeed.tensor_parallel.autotp_size=3"],
        "deepspeed.tensor_parallel.autotp_size",
        FOUR_GPUS,
    ),
    (
        ["stage=3", "deepspeed.tensor_parallel.autotp_size=2"],
        "deepspeed.tensor_parallel.autotp_size",
        FOUR_GPUS,
    ),
    (
        ["deepspeed.tensor_parallel.autotp_size=4"],
        "deepspeed.tensor_parallel.autotp_size",
        FOUR_GPUS,
    ),
    (
        ["deepspeed.comet.enabled=true", "deepspeed.comet.api_key=verysecret"],
        "deepspeed.comet.api_key",
        CPU,
    ),
    (
        ["deepspeed.tensor_parallel.tp_overlap_comm=true"],
        "deepspeed.tensor_parallel.tp_overlap_comm",
        FOUR_GPUS,
    ),
    (
        ["stage=1", "deepspeed.prescale_gradients=true", "deepspeed.gradient_predivide_factor=2"],
        "deepspeed.gradient_predivide_factor",
        FOUR_GPUS,
    ),
]
