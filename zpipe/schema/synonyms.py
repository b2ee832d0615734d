"""Names and values of other tools, with the overrides that mean the same in zpipe.

Sources: Axolotl, LLaMA-Factory, TRL, accelerate, Lightning, TrainingArguments and DeepSpeed's JSON. Names and
values are in lower case with underscores. A name with a dot takes precedence over its last part.
"""

from typing import TypeVar

from zpipe.schema.precision import NO_FP8

_EPOCHS = "train.num_train_epochs={} train.max_steps=-1"  # model=tiny sets max_steps, which would decide
_EVAL = "train.eval_strategy=steps train.eval_steps={}"
_MICRO = "batch.per_device_train_batch_size={}"
_NVME = "stage=3 offload=nvme offload.nvme_path={}"


_Meaning = TypeVar("_Meaning")


def _all(names: str, meaning: _Meaning) -> dict[str, _Meaning]:
    return dict.fromkeys(names.split(), meaning)


RENAMED: dict[str, str] = {
    **_all("lr base_lr peak_lr optimizer.params.learning_rate", "train.learning_rate={}"),
    **_all("epochs num_epochs n_epochs max_epochs num_train_epochs train_epochs", _EPOCHS),
    **_all("steps num_steps total_steps train_steps training_steps max_train_steps", "train.max_steps={}"),
    **_all("num_training_steps total_num_steps", "train.max_steps={}"),
    **_all("warmup num_warmup_steps lr_warmup_steps warmup_ratio", "train.warmup_steps={}"),
    **_all("wd", "train.weight_decay={}"),
    **_all("gradient_clip grad_clip clip_grad clip_grad_norm max_norm", "train.max_grad_norm={}"),
    **_all("gradient_clip_val gradient_clipping", "train.max_grad_norm={}"),
    **_all("beta1", "train.adam_beta1={}"),
    **_all("beta2", "train.adam_beta2={}"),
    **_all("eps adam_eps", "train.adam_epsilon={}"),
    **_all("random_seed manual_seed global_seed", "train.seed={}"),
    **_all("log_interval log_steps logging_interval log_every log_every_n_steps", "train.logging_steps={}"),
    **_all("eval_interval eval_every eval_every_n_steps val_check_interval eval_steps", _EVAL),
    **_all("evaluation_strategy eval_strategy", "train.eval_strategy={}"),
    **_all("num_workers dataloader_workers", "train.dataloader_num_workers={}"),
    **_all("label_smoothing", "train.label_smoothing_factor={}"),
    **_all("neftune_alpha", "train.neftune_noise_alpha={}"),
    **_all("batch_size micro_batch_size micro_bsz mbs per_device_batch_size", _MICRO),
    **_all("train_micro_batch_size per_gpu_train_batch_size", _MICRO),
    **_all("per_gpu_eval_batch_size eval_batch_size val_batch_size", "batch.per_device_eval_batch_size={}"),
    **_all("global_batch_size gbs total_batch_size effective_batch_size", "batch.train_batch_size={}"),
    **_all("grad_accum grad_accum_steps grad_accumulation_steps", "batch.gradient_accumulation_steps={}"),
    **_all("accumulate_grad_batches gradient_accumulation", "batch.gradient_accumulation_steps={}"),
    **_all("max_seq_length max_seq_len max_sequence_length seq_length seq_len", "data.max_length={}"),
    **_all("sequence_len sequence_length cutoff_len model_max_length max_len", "data.max_length={}"),
    **_all("context_length ctx_len", "data.max_length={}"),
    **_all("val_set_size val_size validation_split test_size val_fraction", "data.eval_fraction={}"),
    **_all("completion_only_loss assistant_only_loss", "data.completion_only={}"),
    **_all("max_train_samples num_samples num_train_samples", "data.max_samples={}"),
    **_all("dataset datasets data_path dataset_path dataset_name dataset_name_or_path", "data.path={}"),
    **_all("train_file training_file train_data train_dataset data_files", "data.path={}"),
    **_all("base_model model_name model_path model_id hf_model model_name_or_path", "model.name_or_path={}"),
    **_all("pretrained_model_name_or_path", "model.name_or_path={}"),
    **_all("model.path model.name model.id model.pretrained", "model.name_or_path={}"),
    **_all("tokenizer_name tokenizer_path tokenizer_name_or_path", "model.tokenizer={}"),
    **_all("gpus num_gpus n_gpus ngpus nproc nprocs num_processes devices", "launcher.nproc_per_node={}"),
    **_all("gpus_per_node n_gpus_per_node num_gpus_per_node", "launcher.nproc_per_node={}"),
    **_all("hostfile deepspeed_hostfile", "launcher=deepspeed launcher.hostfile={}"),
    **_all("tracking_uri mlflow_tracking_uri mlflow_uri", "tracking.uri={}"),
    **_all("experiment_name mlflow_experiment_name project_name wandb_project", "tracking.experiment={}"),
    **_all("run_name mlflow_run_name wandb_name wandb_run_name", "tracking.run_name={}"),
    **_all("save_interval save_every checkpoint_interval checkpointing_steps", "checkpoint.save_steps={}"),
    **_all("save_every_n_steps", "checkpoint.save_steps={}"),
    **_all("resume_from_checkpoint resume_path ckpt_path", "resume.checkpoint={}"),
    **_all("save_top_k keep_last_n_checkpoints", "checkpoint.save_total_limit={}"),
    **_all("zero_stage zero deepspeed_stage ds_stage stage.stage zero_optimization.stage", "stage={}"),
    **_all("optimizer_name optimizer_type optimizer.name", "optimizer={}"),
    **_all("lr_scheduler lr_scheduler_type scheduler_name scheduler_type scheduler.name", "scheduler={}"),
    **_all("nvme nvme_path nvme_dir offload_dir offload_optimizer_nvme_path", _NVME),
    **_all("offload_param_nvme_path", _NVME),
    **_all("output_dir out_dir save_dir output_path checkpoint_dir logging_dir", "hydra.run.dir={}"),
    **_all("deepspeed deepspeed_config deepspeed_config_file ds_config", "zpipe import {}"),
}
"""The overrides that a name stands for; {} is its value. `zpipe import` is a command, not an override."""

_RECOMPUTE = {
    **_all("true unsloth full selective", "activation_checkpointing=transformers"),
    "false": "activation_checkpointing=none",
}
_FLASH = {
    **_all("true fa2 2 flash_attention_2", "model.attn_implementation=flash_attention_2"),
    **_all("fa3 3 flash_attention_3", "model.attn_implementation=flash_attention_3"),
    **_all("fa4 4 flash_attention_4", "model.attn_implementation=flash_attention_4"),
    **_all("flex flex_attention", "model.attn_implementation=flex_attention"),
    **_all("false disabled sdpa auto", "model.attn_implementation=sdpa"),
}
_PACKING = {**_all("true wrapped", "data.packing=wrapped"), **_all("false none", "data.packing=none")}
_PRECISIONS = {
    **_all("bf16 bfloat16 torch.bfloat16 bf16_mixed bf16_true", "precision=bf16"),
    **_all("fp16 float16 torch.float16 half 16 16_mixed", "precision=fp16"),
    **_all("fp32 float32 torch.float32 32 32_true no none false full", "precision=fp32"),
    "auto": "precision=auto",
}
_REPORT = {"mlflow": "tracking=mlflow", **_all("none false no []", "tracking=none")}
_OPTIMIZER_DEVICES = {
    **_all("cpu true", "offload=cpu_optimizer"),
    **_all("nvme disk", "stage=3 offload=nvme_optimizer"),
    **_all("none false", "offload=none"),
}
_PARAM_DEVICES = {
    **_all("cpu true", "stage=3 offload=cpu"),
    **_all("nvme disk", "stage=3 offload=nvme"),
    **_all("none false", "offload=none"),
}
_CPU = {"true": "launcher.device=cpu", "false": "launcher.device=auto"}


def _switch(dtype: str) -> dict[str, str]:
    return {"true": f"precision={dtype}", "false": "precision=fp32", "auto": "precision=auto"}


SWITCHED: dict[str, dict[str, str]] = {
    **_all("bf16 bf16.enabled pure_bf16 precision.bf16", _switch("bf16")),
    **_all("fp16 fp16.enabled float16 precision.fp16", _switch("fp16")),
    "tf32": _switch("tf32"),
    "fp32": {"true": "precision=fp32", "false": "precision=auto"},
    **_all("mixed_precision dtype torch_dtype compute_dtype", _PRECISIONS),
    **_all("gradient_checkpointing grad_checkpointing use_gradient_checkpointing", _RECOMPUTE),
    **_all("recompute activation_checkpoint enable_gradient_checkpointing", _RECOMPUTE),
    **_all("flash_attention flash_attn use_flash_attn use_flash_attention_2", _FLASH),
    **_all("attn attention", _FLASH),
    "sdp_attention": {"true": "model.attn_implementation=sdpa"},
    "eager_attention": {"true": "model.attn_implementation=eager"},
    "flex_attention": {"true": "model.attn_implementation=flex_attention"},
    **_all("packing sample_packing neat_packing data.packing", _PACKING),
    "train_on_inputs": {"true": "data.completion_only=false", "false": "data.completion_only=true"},
    **_all("offload_optimizer offload_optimizer_device", _OPTIMIZER_DEVICES),
    **_all("offload_optimizer.device optimizer_offload", _OPTIMIZER_DEVICES),
    **_all("offload_param offload_param_device offload_param.device", _PARAM_DEVICES),
    **_all("report_to logger", _REPORT),
    **_all("no_cuda use_cpu cpu", _CPU),
    **_all(
        "use_liger liger liger_kernel enable_liger_kernel",
        {"true": "kernels=liger", "false": "kernels=none"},
    ),
    "auto_resume_from_checkpoints": {"true": "resume.checkpoint=auto", "false": "resume.checkpoint=never"},
    **_all("torch_compile use_compile use_torch_compile", {"true": "compile=torch", "false": "compile=none"}),
}
"""The overrides that a value of a name stands for."""

OPTIONS: dict[str, dict[str, str]] = {
    "precision": {**_PRECISIONS, "mixed": "precision=bf16", "fp8": "precision=bf16"},
    "stage": {f"{name}{number}": f"stage={number}" for name in ("zero", "zero_", "z") for number in range(4)},
    "offload": {
        **_all("true all both param", "stage=3 offload=cpu"),
        **_all("optimizer optim", "offload=cpu_optimizer"),
        **_all("disk ssd", "stage=3 offload=nvme"),
        **_all("false no off gpu cuda", "offload=none"),
    },
    "optimizer": {
        **_all("adamw_hf fused_adam fusedadam", "optimizer=adamw"),
        **_all("deepspeedcpuadam cpu_adam cpuadam", "offload=cpu_optimizer optimizer=adamw"),
    },
    "scheduler": {
        **_all("warmuplr", "scheduler=warmup"),
        **_all("warmupdecaylr", "scheduler=warmup_decay"),
        **_all("warmupcosinelr", "scheduler=warmup_cosine"),
        **_all("onecycle one_cycle_lr", "scheduler=one_cycle"),
        **_all("none false", "scheduler=constant"),
    },
    "activation_checkpointing": _RECOMPUTE,
    "compile": {**_all("true inductor default", "compile=torch"), "false": "compile=none"},
    "kernels": {**_all("true liger_kernel liger_kernels", "kernels=liger"), "false": "kernels=none"},
    "tracking": {**_REPORT, "true": "tracking=mlflow", "off": "tracking=none"},
    "checkpoint": {"steps": "checkpoint=default", **_all("no false off", "checkpoint=none")},
    "launcher": {**_all("deepspeed accelerate local", "launcher=torchrun"), "none": "launcher=inprocess"},
    "zeropp": {"true": "stage=3 zeropp=quantized", "false": "zeropp=none"},
    "profiler": {"true": "profiler=wall_clock", "false": "profiler=none"},
}
"""By group, the overrides that an option of another tool stands for."""

_ADAPTERS = "zpipe trains all weights; it has no adapters (LoRA, QLoRA, DoRA)"
_QUANTIZED = "zpipe trains all weights, and quantized weights cannot be trained in full"
_EACH_MACHINE = "zpipe is started on each machine: launcher.nodes, launcher.node_rank, launcher.master_addr"
_DATA_PARALLEL = "zpipe offers data parallelism and deepspeed.tensor_parallel only"
_OTHER_TRACKER = "zpipe records to MLflow"

UNSUPPORTED: dict[str, str] = {
    **_all("lora qlora dora peft adapter adapters use_peft use_lora peft_config lora_config", _ADAPTERS),
    **_all("lora_r lora_rank lora_alpha lora_dropout lora_target lora_target_modules", _ADAPTERS),
    **_all("finetuning_type train_type adapter_name_or_path lora_model_dir", _ADAPTERS),
    **_all("lora_target_linear use_dora use_rslora", _ADAPTERS),
    **_all("load_in_4bit load_in_8bit quantization quantization_bit bnb_config bits", _QUANTIZED),
    **_all("nnodes num_nodes n_nodes num_machines machine_rank node_rank", _EACH_MACHINE),
    **_all("main_process_ip main_process_port master_addr master_port", _EACH_MACHINE),
    **_all("fsdp fsdp_config", "zpipe uses DeepSpeed ZeRO instead: stage=3 is full sharding"),
    **_all("context_parallel_size sequence_parallel_size sequence_parallel_degree", _DATA_PARALLEL),
    **_all("pipeline_parallel_size pp_size", _DATA_PARALLEL),
    **_all("wandb use_wandb tensorboard use_tensorboard comet wandb_entity swanlab", _OTHER_TRACKER),
    **_all("template chat_template", "zpipe uses the chat template of the tokenizer: model.tokenizer"),
    **_all("rl dpo_beta pref_beta reward_model kl_coef", "zpipe trains on next tokens only"),
    **_all("dataset_text_field text_column text_field", "zpipe reads the column text: rename yours"),
    **_all("streaming", "zpipe tokenizes all data before training"),
}
"""What zpipe cannot do, by the name that other tools give it."""

UNSUPPORTED_OPTIONS: dict[str, dict[str, str]] = {
    "tracking": _all("wandb tensorboard comet comet_ml neptune clearml swanlab all", _OTHER_TRACKER),
    "precision": {"fp8": NO_FP8, **_all("int8 nf4 4bit 8bit", "zpipe trains in 16 and 32 bits")},
    "stage": _all("sft pt dpo kto rm ppo orpo", "stage is ZeRO's; zpipe trains on next tokens only"),
    "launcher": _all("mpi openmpi pdsh k8s ray", _EACH_MACHINE),
}
"""By group, options that zpipe cannot offer, with the reason."""
