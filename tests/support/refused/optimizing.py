"""Optimizers and schedulers."""

from tests.support.planning import CPU
from tests.support.refused.rows import ONE_GPU, Row

ROWS: list[Row] = [
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
    (["optimizer=sgd", "optimizer.params.nesterov=true"], "optimizer.params.nesterov", CPU),
    (
        ["optimizer=sgd", "optimizer.params={nesterov: true, momentum: 0.9, dampening: 0.1}"],
        "optimizer.params.nesterov",
        CPU,
    ),
    (["optimizer=lion", "train.adam_epsilon=1e-6"], "train.adam_epsilon", ONE_GPU),
    (["optimizer=lamb"], "optimizer.type", CPU),
    (["optimizer=lion"], "optimizer.type", CPU),
    (["optimizer=lion", "stage=0"], "optimizer.type", CPU),
    (["optimizer=lamb", "offload=cpu_optimizer"], "optimizer.type", ONE_GPU),
    (["optimizer=adafactor", "offload=cpu_optimizer"], "optimizer.optim", CPU),
    (["stage=3", "offload=nvme", "optimizer=lion"], "optimizer.type", ONE_GPU),
    (["optimizer.type=MuAdamW"], "optimizer.type", CPU),
    (["optimizer=muon", "stage=3"], "stage.reduce_scatter", ONE_GPU),
    (["optimizer=muon", "stage=3", "offload=cpu"], "stage.reduce_scatter", ONE_GPU),
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
        ["scheduler=cosine_with_min_lr", "scheduler.lr_scheduler_kwargs.min_lr_rate=low"],
        "scheduler.lr_scheduler_kwargs.min_lr_rate",
        CPU,
    ),
    (
        ["scheduler=polynomial", "scheduler.lr_scheduler_kwargs.lr_end=low"],
        "scheduler.lr_scheduler_kwargs.lr_end",
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
        [
            "scheduler=warmup_stable_decay",
            "~scheduler.lr_scheduler_kwargs.num_decay_steps",
            "train.max_steps=30",
        ],
        "scheduler.lr_scheduler_kwargs.num_decay_steps",
        CPU,
    ),
    (
        ["scheduler=warmup_stable_decay", "train.max_steps=30"],
        "scheduler.lr_scheduler_kwargs.num_decay_steps",
        CPU,
    ),
]
