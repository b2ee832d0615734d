"""The most common mistakes: stage, offload, precision, batch, data and the Trainer's arguments."""

from tests.support.planning import CPU
from tests.support.refused.rows import FOUR_GPUS, OLD_GPU, ONE_GPU, Row

ROWS: list[Row] = [
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
    (
        [
            "batch.per_device_train_batch_size=null",
            "batch.gradient_accumulation_steps=3",
            "batch.train_batch_size=16",
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
    (["data.path="], "data.path", CPU),
    (["launcher.env.CUDA_VISIBLE_DEVICES=0"], "launcher.env.CUDA_VISIBLE_DEVICES", FOUR_GPUS),
    # checkpoint
    (["checkpoint.writer.type=FAST"], "checkpoint.writer.type", CPU),
    (["checkpoint.load_universal=true"], "checkpoint.load_universal", CPU),
    (["checkpoint.parallel_write.pipeline_stage=true"], "checkpoint.parallel_write.pipeline_stage", CPU),
]
