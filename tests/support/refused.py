"""For every rule a bad command line, the key that it must name, and the machine that it is planned for."""

from tests.support.planning import CPU, H200, V100, gpus
from zpipe.facts.hardware import Hardware

Row = tuple[list[str], str, Hardware]

ONE_GPU = gpus(H200)
OLD_GPU = gpus(V100)
FOUR_GPUS = gpus(H200, H200, H200, H200)

REFUSED: list[Row] = [
    (["stage=2", "offload=nvme"], "offload.offload_optimizer.device", CPU),
    (["stage=1", "offload=nvme_optimizer"], "offload.offload_optimizer.device", CPU),
    (["stage=2", "offload=cpu"], "offload.offload_param.device", CPU),
    (["stage=0", "offload=cpu_optimizer"], "offload.offload_optimizer.device", CPU),
    (["stage=2", "stage.stage3_max_live_parameters=1e9"], "stage.stage3_max_live_parameters", CPU),
    (["stage=2", "stage.sub_group_size=1e9"], "stage.sub_group_size", CPU),
    (["stage=3", "stage.round_robin_gradients=true"], "stage.round_robin_gradients", CPU),
    (["stage=0", "stage.reduce_bucket_size=5e8"], "stage.reduce_bucket_size", CPU),
    (["stage.compute_grad_norm=false"], "stage.compute_grad_norm", CPU),
    (["stage=3", "stage.zero_hpz_partition_size=3"], "stage.zero_hpz_partition_size", FOUR_GPUS),
    (
        ["stage=3", "precision=bf16", "stage.zero_quantized_nontrainable_weights=true"],
        "stage.zero_quantized_nontrainable_weights",
        ONE_GPU,
    ),
    (
        ["stage=3", "stage.stage3_gather_16bit_weights_on_model_save=false"],
        "stage.stage3_gather_16bit_weights_on_model_save",
        CPU,
    ),
    (
        ["stage=2", "offload=cpu_optimizer", "offload.offload_optimizer.ratio=0.5"],
        "offload.offload_optimizer.ratio",
        CPU,
    ),
    (
        ["stage=3", "offload=cpu", "offload.offload_optimizer.super_offload=true"],
        "offload.offload_optimizer.super_offload",
        CPU,
    ),
    (["offload.nvme_path=/nvme"], "offload.nvme_path", CPU),
    (["offload.pin_memory=false"], "offload.pin_memory", CPU),
    (["offload.aio.queue_depth=8"], "offload.aio.queue_depth", CPU),
    (
        ["stage=3", "offload=cpu", "offload.offload_param.buffer_count=5"],
        "offload.offload_param.buffer_count",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "model=llama3_1b", "offload.offload_param.buffer_count=3"],
        "offload.offload_param.buffer_count",
        ONE_GPU,
    ),
    (
        [
            "stage=3",
            "offload=nvme",
            "model=llama3_1b",
            "offload.offload_param.buffer_count=12",
            "stage.stage3_max_reuse_distance=1e9",
        ],
        "offload.offload_param.buffer_count",
        ONE_GPU,
    ),
    (
        ["stage=3", "offload=nvme", "model=llama3_1b", "offload.offload_param.buffer_size=1e8"],
        "offload.offload_param.buffer_size",
        ONE_GPU,
    ),
    (
        ["stage=3", "offload=nvme", "stage.stage3_prefetch_bucket_size=5e7"],
        "stage.stage3_prefetch_bucket_size",
        CPU,
    ),
    (
        [
            "stage=3",
            "offload=nvme",
            "offload.offload_optimizer.fast_init=true",
            "model.config.hidden_size=90",
        ],
        "offload.offload_optimizer.fast_init",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "train.gradient_checkpointing=true"],
        "train.gradient_checkpointing",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "offload.offload_optimizer.buffer_count=3"],
        "offload.offload_optimizer.buffer_count",
        CPU,
    ),
    (["stage=3", "offload=nvme", "stage.sub_group_size=1e9"], "stage.sub_group_size", CPU),
    (
        ["stage=3", "offload=nvme", "stage.stage3_param_persistence_threshold=1e9"],
        "stage.stage3_param_persistence_threshold",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "model.name_or_path=org/unseen"],
        "offload.offload_param.buffer_size",
        CPU,
    ),
    (["precision=bf16", "precision.fp16.initial_scale_power=8"], "precision.fp16.initial_scale_power", CPU),
    (
        ["precision=fp16", "precision.bf16.check_grad_overflow=false"],
        "precision.bf16.check_grad_overflow",
        CPU,
    ),
    (
        ["precision=fp16", "precision.fp16.loss_scale=128", "precision.fp16.hysteresis=2"],
        "precision.fp16.hysteresis",
        CPU,
    ),
    (["precision=tf32"], "precision", CPU),
    (["precision=bf16"], "precision", OLD_GPU),
    (
        ["stage=0", "precision=bf16", "precision.data_types.grad_accum_dtype=fp32"],
        "precision.data_types.grad_accum_dtype",
        CPU,
    ),
    (["stage=0", "precision=fp16"], "precision", CPU),
    (["optimizer=adamw", "optimizer.optim=adamw_torch"], "optimizer", CPU),
    (["scheduler=linear", "scheduler.type=WarmupLR"], "scheduler", CPU),
    (["offload=cpu_optimizer", "optimizer=adamw_torch"], "optimizer.optim", CPU),
    (["offload=cpu_optimizer", "optimizer.params.torch_adam=true"], "optimizer.params.torch_adam", CPU),
    (["optimizer=adamw_torch", "optimizer.params.torch_adam=true"], "optimizer.params.torch_adam", CPU),
    (["data.eval_fraction=0", "train.eval_strategy=steps"], "train.eval_strategy", CPU),
    (
        ["train.load_best_model_at_end=true", "train.eval_strategy=epoch", "checkpoint=default"],
        "train.load_best_model_at_end",
        CPU,
    ),
    (["train.load_best_model_at_end=true", "checkpoint=none"], "train.load_best_model_at_end", CPU),
    (
        [
            "train.load_best_model_at_end=true",
            "train.eval_strategy=steps",
            "data.eval_fraction=0.1",
            "train.eval_steps=7",
        ],
        "checkpoint.save_steps",
        CPU,
    ),
    (["train.metric_for_best_model=accuracy"], "train.metric_for_best_model", CPU),
    (["data.eval_fraction=0", "train.eval_on_start=true"], "train.eval_on_start", CPU),
    (["train.dataloader_prefetch_factor=4"], "train.dataloader_prefetch_factor", CPU),
    (["train.dataloader_persistent_workers=true"], "train.dataloader_persistent_workers", CPU),
    (["train.max_steps=0"], "train.max_steps", CPU),
    (
        ["train.gradient_checkpointing_kwargs.use_reentrant=false"],
        "train.gradient_checkpointing_kwargs",
        CPU,
    ),
    (["train.liger_kernel_config.rope=true"], "train.liger_kernel_config", CPU),
    (["train.eval_steps=5"], "train.eval_steps", CPU),
    (["train.eval_delay=5"], "train.eval_delay", CPU),
    (["checkpoint=epoch", "checkpoint.save_steps=50"], "checkpoint.save_steps", CPU),
    (["train.use_liger_kernel=true", "train.torch_compile=true"], "train.torch_compile", CPU),
    (["train.use_liger_kernel=true", "train.torch_compile_mode=default"], "train.torch_compile", CPU),
    (["launcher.device=cuda"], "launcher.device", CPU),
    (["launcher.nproc_per_node=2"], "launcher.nproc_per_node", ONE_GPU),
    (["launcher=inprocess", "launcher.nproc_per_node=2"], "launcher.nproc_per_node", CPU),
    # optimizer
    (["optimizer=adamw", "optimizer.params.momentum=0.9"], "optimizer.params.momentum", CPU),
    (["optimizer=adafactor", "optimizer.params.momentum=0.9"], "optimizer.params.momentum", CPU),
    (["optimizer=adamw", "optimizer.params.amsgrad=true"], "optimizer.params.amsgrad", ONE_GPU),
    (["optimizer=adamw", "optimizer.params.foreach=true"], "optimizer.params.foreach", ONE_GPU),
    (["optimizer=adamw", "optimizer.params.bias_correction=false"], "optimizer.params.bias_correction", CPU),
    (["offload=cpu_optimizer", "optimizer.params.set_grad_none=true"], "optimizer.params.set_grad_none", CPU),
    (
        ["optimizer=adamw", "optimizer.params.fp32_optimizer_states=false"],
        "optimizer.params.fp32_optimizer_states",
        ONE_GPU,
    ),
    (
        ["optimizer=adagrad", "offload=cpu_optimizer", "optimizer.params.lr_decay=0.1"],
        "optimizer.params.lr_decay",
        CPU,
    ),
    (["optimizer=sgd", "train.adam_beta1=0.8"], "train.adam_beta1", CPU),
    (["optimizer=lion", "train.adam_epsilon=1e-6"], "train.adam_epsilon", ONE_GPU),
    (["optimizer=lamb"], "optimizer.type", CPU),
    (["optimizer=lion"], "optimizer.type", CPU),
    (["optimizer=lamb", "offload=cpu_optimizer"], "optimizer.type", ONE_GPU),
    (["optimizer=adafactor", "offload=cpu_optimizer"], "optimizer.optim", CPU),
    (["stage=3", "offload=nvme", "optimizer=lion"], "optimizer.type", ONE_GPU),
    (["optimizer.type=MuAdamW"], "optimizer.type", CPU),
    (["optimizer=muon", "stage=3"], "stage.reduce_scatter", ONE_GPU),
    (
        ["optimizer=lamb", "precision=fp16", "precision.fp16.loss_scale=128"],
        "precision.fp16.loss_scale",
        ONE_GPU,
    ),
    (
        ["optimizer=sgd", "deepspeed.zero_allow_untested_optimizer=false"],
        "deepspeed.zero_allow_untested_optimizer",
        CPU,
    ),
    (
        ["optimizer=adamw", "deepspeed.zero_force_ds_cpu_optimizer=false"],
        "deepspeed.zero_force_ds_cpu_optimizer",
        CPU,
    ),
    (
        [
            "precision=bf16",
            "offload=cpu_optimizer",
            "precision.bf16.bf16_master_weights_and_grads=true",
            "precision.bf16.bf16_optimizer_states=true",
            "optimizer.params.fp32_optimizer_states=true",
        ],
        "optimizer.params.fp32_optimizer_states",
        CPU,
    ),
    (["optimizer=adamw", "optimizer.optim_args='a=1'"], "optimizer.optim_args", CPU),
    (
        ["optimizer.type=null", "optimizer.optim=sgd", "optimizer.optim_args='alpha=1'"],
        "optimizer.optim_args",
        CPU,
    ),
    (["optimizer=adamw_torch", "optimizer.optim_args='weight_decay=1'"], "optimizer.optim_args", CPU),
    (["optimizer=adamw_torch", "optimizer.optim_args=fast"], "optimizer.optim_args", CPU),
    (
        ["optimizer.type=null", "optimizer.optim=sgd", "optimizer.optim_args='nesterov=yes please'"],
        "optimizer.optim_args",
        CPU,
    ),
    (["optimizer=adamw", "optimizer.params.adam_w_mode=false"], "optimizer.params.adam_w_mode", CPU),
    (
        [
            "stage=3",
            "offload=nvme",
            "optimizer=adafactor",
            "deepspeed.zero_force_ds_cpu_optimizer=false",
        ],
        "optimizer.optim",
        CPU,
    ),
    (["optimizer.legacy_fusion=true"], "optimizer.legacy_fusion", CPU),
    # scheduler
    (["scheduler=warmup", "scheduler.params.total_num_steps=100"], "scheduler.params.total_num_steps", CPU),
    (["scheduler=linear", "scheduler.params.warmup_type=log"], "scheduler.params.warmup_type", CPU),
    (
        ["scheduler=cosine", "scheduler.lr_scheduler_kwargs.num_cycle=1"],
        "scheduler.lr_scheduler_kwargs.num_cycle",
        CPU,
    ),
    (["scheduler=one_cycle", "scheduler.params.decay_lr_rate=0.1"], "scheduler.params.decay_lr_rate", CPU),
    (
        ["scheduler=one_cycle", "optimizer=sgd", "scheduler.params.cycle_momentum=true"],
        "scheduler.params.cycle_momentum",
        CPU,
    ),
    (
        [
            "scheduler=one_cycle",
            "scheduler.params.cycle_momentum=false",
            "scheduler.params.cycle_min_mom=0.8",
        ],
        "scheduler.params.cycle_min_mom",
        CPU,
    ),
    (
        ["scheduler=warmup_decay", "scheduler.params.warmup_num_steps=50"],
        "scheduler.params.warmup_num_steps",
        CPU,
    ),
    (["scheduler=warmup", "scheduler.params.warmup_max_lr=0.1"], "scheduler.params.warmup_max_lr", CPU),
    (
        ["scheduler=warmup_cosine", "scheduler.params.total_num_steps=50"],
        "scheduler.params.total_num_steps",
        CPU,
    ),
    (["scheduler=one_cycle", "train.adam_beta2=0.95"], "train.adam_beta2", CPU),
    (
        ["scheduler=cosine_with_min_lr", "scheduler.lr_scheduler_kwargs.min_lr=1e-6"],
        "scheduler.lr_scheduler_kwargs.min_lr",
        CPU,
    ),
    (
        ["scheduler=cosine_with_min_lr", "scheduler.lr_scheduler_kwargs.min_lr_rate=null"],
        "scheduler.lr_scheduler_kwargs.min_lr_rate",
        CPU,
    ),
    (
        ["scheduler=cosine", "scheduler.lr_scheduler_kwargs.num_cycles=many"],
        "scheduler.lr_scheduler_kwargs.num_cycles",
        CPU,
    ),
    (
        ["scheduler=warmup_stable_decay", "scheduler.lr_scheduler_kwargs.warmup_type=log"],
        "scheduler.lr_scheduler_kwargs.warmup_type",
        CPU,
    ),
    (
        ["scheduler=polynomial", "scheduler.lr_scheduler_kwargs.lr_end=0.1"],
        "scheduler.lr_scheduler_kwargs.lr_end",
        CPU,
    ),
    (
        ["scheduler=warmup_stable_decay", "train.max_steps=30"],
        "scheduler.lr_scheduler_kwargs.num_decay_steps",
        CPU,
    ),
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
    (["compile.deepcompile=true"], "compile.deepcompile", ONE_GPU),
    (["compile=deepcompile"], "compile.deepcompile", CPU),
    (["compile=deepcompile", "stage=0"], "compile.deepcompile", ONE_GPU),
    (["compile=torch", "compile.free_activation=true"], "compile.free_activation", ONE_GPU),
    (["data.path="], "data.path", CPU),
    (["launcher.env.CUDA_VISIBLE_DEVICES=0"], "launcher.env.CUDA_VISIBLE_DEVICES", FOUR_GPUS),
    (
        ["stage=1", "deepspeed.prescale_gradients=true", "deepspeed.gradient_predivide_factor=2"],
        "deepspeed.gradient_predivide_factor",
        FOUR_GPUS,
    ),
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
    # DeepSpeed's other keys
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
    (
        ["precision=bf16", "precision.bf16.immediate_grad_update=true"],
        "precision.bf16.immediate_grad_update",
        CPU,
    ),
    (
        [
            "precision=bf16",
            "precision.torch_autocast.enabled=true",
            "precision.torch_autocast.dtype=bfloat16",
        ],
        "precision.torch_autocast.enabled",
        CPU,
    ),
    (
        ["precision=fp32", "precision.torch_autocast.enabled=true"],
        "precision.torch_autocast.dtype",
        CPU,
    ),
    (["precision.torch_autocast.dtype=bfloat16"], "precision.torch_autocast.dtype", CPU),
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
    (["stage=2", "stage.leaf_module.names=[a]"], "stage.leaf_module.names", CPU),
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
    # checkpoint
    (["checkpoint.writer.type=FAST"], "checkpoint.writer.type", CPU),
    (["checkpoint.load_universal=true"], "checkpoint.load_universal", CPU),
    (["checkpoint.parallel_write.pipeline_stage=true"], "checkpoint.parallel_write.pipeline_stage", CPU),
    # batch
    (
        ["batch.per_device_train_batch_size=4", "batch.train_batch_size=30"],
        "batch.train_batch_size",
        CPU,
    ),
    (
        [
            "batch.per_device_train_batch_size=4",
            "batch.gradient_accumulation_steps=2",
            "batch.train_batch_size=32",
        ],
        "batch.train_batch_size",
        CPU,
    ),
    (["model=tiny", "model.name_or_path=Qwen/Qwen2.5-0.5B"], "model.config", CPU),
    (["model=pretrained"], "model.name_or_path", CPU),
    *(
        ([f"model.config.{name}={value}"], f"model.config.{name}", CPU)
        for name, value in {
            "hidden_size": "abc",
            "num_attention_heads": 0,
            "max_position_embeddings": "abc",
        }.items()
    ),
    (["data.max_length=4096"], "data.max_length", CPU),
    (["data=files"], "data.path", CPU),
    (["data=python_stdlib", "data.path=train.jsonl"], "data.path", CPU),
    (["data.path=/no/such/file.jsonl"], "data.path", CPU),
    (["model.name_or_path=/no/such/model"], "model.name_or_path", CPU),
]


MACHINES = {CPU: "no GPU", ONE_GPU: "one H200", OLD_GPU: "one V100", FOUR_GPUS: "four H200"}


def command(row: Row) -> str:
    """The row as a person would type it, with the machine as a comment."""
    overrides, _, hardware = row
    return f"zpipe plan {' '.join(overrides)}   # {MACHINES[hardware]}"
