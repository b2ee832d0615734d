"""The keyword arguments of transformers.TrainingArguments, from the same source as the JSON."""

from pathlib import Path
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.schema.experiment import Experiment

EMPTY_MEANS_DEFAULT = ("gradient_checkpointing", "gradient_checkpointing_kwargs", "liger_kernel_config")


def training_arguments(experiment: Experiment, facts: Facts, run_dir: Path) -> dict[str, Any]:
    """All arguments except `deepspeed`, which the worker adds from the plan's JSON."""
    arguments = experiment.train.given()
    for name in EMPTY_MEANS_DEFAULT:
        if not arguments[name]:
            del arguments[name]
    batch = experiment.batch
    is_pinned = experiment.train.dataloader_pin_memory and facts.device == "cuda"
    arguments.update(
        use_liger_kernel=facts.liger.is_used,
        **_liger_kernel_config(facts),
        output_dir=str(run_dir),
        per_device_train_batch_size=facts.micro_batch,
        per_device_eval_batch_size=batch.per_device_eval_batch_size or facts.micro_batch,
        gradient_accumulation_steps=facts.accumulation,
        fp16=facts.dtype == "fp16",
        bf16=facts.dtype == "bf16",
        use_cpu=facts.device == "cpu",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=is_pinned,
        logging_strategy="steps",
    )
    if is_pinned:
        # A blocking copy of a batch waits for everything that was queued before it.
        arguments["accelerator_config"] = {"non_blocking": True}
    if facts.dtype in ("fp32", "tf32"):
        # If unset, transformers turns TF32 on when PyTorch compiles the model.
        arguments["tf32"] = facts.dtype == "tf32"
    arguments.update(_optimizer_and_scheduler(experiment))
    arguments.update(_checkpoint(experiment))
    return arguments


def _liger_kernel_config(facts: Facts) -> dict[str, dict[str, bool]]:
    switches = dict(facts.liger.switches)
    return {"liger_kernel_config": switches} if facts.liger.is_used and switches else {}


def _optimizer_and_scheduler(experiment: Experiment) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if experiment.optimizer.optim is not None:
        arguments["optim"] = experiment.optimizer.optim
    if experiment.optimizer.optim_args is not None:
        arguments["optim_args"] = experiment.optimizer.optim_args
    if experiment.scheduler.lr_scheduler_type is not None:
        arguments["lr_scheduler_type"] = experiment.scheduler.lr_scheduler_type
    if experiment.scheduler.lr_scheduler_kwargs:
        arguments["lr_scheduler_kwargs"] = experiment.scheduler.lr_scheduler_kwargs
    return arguments


def _checkpoint(experiment: Experiment) -> dict[str, Any]:
    checkpoint = experiment.checkpoint
    return {
        "save_strategy": checkpoint.save_strategy,
        "save_steps": checkpoint.save_steps,
        "save_total_limit": checkpoint.save_total_limit,
        "save_only_model": checkpoint.save_only_model,
        "save_on_each_node": checkpoint.node_local,
    }
