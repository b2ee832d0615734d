"""Experiment → DeepSpeed JSON, block by block, in DeepSpeed's own names.

A key whose value is null is not written, so that DeepSpeed's default applies. Where transformers
takes `auto` from the model or from TrainingArguments, the value is worked out here by the same
formula (transformers/integrations/deepspeed.py); what cannot be known yet stays `auto`, with a reason.
"""

import math
from collections.abc import Callable
from typing import Any

from zpipe.compile.swap import bound_persistence, resolve_for_swapping
from zpipe.facts.facts import Facts
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment

Json = dict[str, Any]

HIDDEN_SIZE_FORMULAS: dict[str, Callable[[int], int]] = {
    "reduce_bucket_size": lambda hidden: hidden * hidden,
    "stage3_prefetch_bucket_size": lambda hidden: int(0.9 * hidden * hidden),
    "stage3_param_persistence_threshold": lambda hidden: 10 * hidden,
}


def ds_config(experiment: Experiment, facts: Facts, swap_dir: str | None) -> Json:
    """The whole JSON. `swap_dir` is this run's own folder of swap files, given under NVMe offload."""
    config: Json = {**_batch(experiment, facts), **_precision(experiment, facts)}
    config["zero_optimization"] = _zero(experiment, facts, swap_dir)
    config.update(_optimizer(experiment, facts))
    config.update(_scheduler(experiment, facts))
    if swap_dir is not None and (aio := _given(experiment.offload.aio)):
        config["aio"] = aio
    if experiment.checkpoint.save_on_each_node:
        config["checkpoint"] = {"use_node_local_storage": True}
    return config


def unresolved(config: Json) -> dict[str, str]:
    """The dotted keys that stayed `auto`, each with the reason."""
    reasons = {
        "total_num_steps": "the steps are counted once the data is tokenised; train.max_steps fixes them",
        "warmup_num_steps": "a share of the steps, which are counted once the data is tokenised",
    }
    hidden = "the model's hidden size cannot be read before the model is downloaded"
    return {key: reasons.get(key.rpartition(".")[2], hidden) for key in _autos(config, "")}


def _autos(block: Json, prefix: str) -> list[str]:
    keys: list[str] = []
    for name, value in block.items():
        if isinstance(value, dict):
            keys += _autos(value, f"{prefix}{name}.")
        elif value == "auto":
            keys.append(f"{prefix}{name}")
    return keys


def _given(block: Group, *leave_out: str) -> Json:
    values = block.model_dump(exclude_none=True)
    return {name: value for name, value in values.items() if name not in leave_out}


def _batch(experiment: Experiment, facts: Facts) -> Json:
    batch = experiment.batch
    micro, accumulation = batch.per_device_train_batch_size, batch.gradient_accumulation_steps
    return {
        "train_batch_size": micro * accumulation * facts.world_size,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": experiment.train.max_grad_norm,
    }


def _precision(experiment: Experiment, facts: Facts) -> Json:
    precision = experiment.precision
    config: Json = {
        "fp16": {"enabled": facts.dtype == "fp16"},
        "bf16": {"enabled": facts.dtype == "bf16"},
    }
    if facts.dtype == "fp16":
        config["fp16"].update(_given(precision.fp16))
    if facts.dtype == "bf16":
        config["bf16"].update(_given(precision.bf16))
    if precision.communication_data_type is not None:
        config["communication_data_type"] = precision.communication_data_type
    if precision.grad_accum_dtype is not None:
        config["data_types"] = {"grad_accum_dtype": precision.grad_accum_dtype}
    return config


def _zero(experiment: Experiment, facts: Facts, swap_dir: str | None) -> Json:
    stage = experiment.stage
    block = _given(stage, "leaf_module")
    block.update(_offload(experiment, swap_dir))
    resolve_for_swapping(block, experiment, facts)
    for name, formula in HIDDEN_SIZE_FORMULAS.items():
        if block.get(name) == "auto" and facts.model.hidden_size is not None:
            block[name] = formula(facts.model.hidden_size)
    bound_persistence(block, experiment, facts)
    if leaf_module := _given(stage.leaf_module):
        block["leaf_module"] = leaf_module
    return block


def _offload(experiment: Experiment, swap_dir: str | None) -> Json:
    offload = experiment.offload
    blocks: Json = {}
    for name, block in (
        ("offload_optimizer", offload.offload_optimizer),
        ("offload_param", offload.offload_param),
    ):
        if block.device == "none":
            continue
        values = _given(block)
        if "pin_memory" not in values and offload.pin_memory is not None:
            values["pin_memory"] = offload.pin_memory
        if block.device == "nvme":
            values["nvme_path"] = swap_dir
        blocks[name] = values
    return blocks


def _optimizer(experiment: Experiment, facts: Facts) -> Json:
    optimizer, train = experiment.optimizer, experiment.train
    if optimizer.type is None:
        # accelerate would otherwise put DeepSpeed's CPU Adam in the place of the optimizer that was chosen.
        offloaded = experiment.offload.offload_optimizer.device != "none"
        return {"zero_force_ds_cpu_optimizer": False} if offloaded else {}
    params: Json = {
        "lr": train.learning_rate,
        "betas": [train.adam_beta1, train.adam_beta2],
        "eps": train.adam_epsilon,
        "weight_decay": train.weight_decay,
    }
    if uses_torch_adam(experiment, facts):
        params["torch_adam"] = True
    if optimizer.type == "Adam":
        params["adam_w_mode"] = False  # DeepSpeed's "Adam" decouples the decay unless told otherwise
    return {"optimizer": {"type": optimizer.type, "params": params}}


def uses_torch_adam(experiment: Experiment, facts: Facts) -> bool:
    """Whether PyTorch's Adam serves, which needs no operator to be built."""
    if experiment.optimizer.torch_adam is not None:
        return experiment.optimizer.torch_adam
    return facts.device == "cpu" and experiment.offload.offload_optimizer.device == "none"


def _scheduler(experiment: Experiment, facts: Facts) -> Json:
    scheduler, train = experiment.scheduler, experiment.train
    if scheduler.type is None:
        return {}
    params: Json = {"warmup_num_steps": _warmup_steps(train.warmup_steps, facts.total_steps)}
    if scheduler.type in ("WarmupLR", "WarmupDecayLR"):
        params.update(warmup_min_lr=0, warmup_max_lr=train.learning_rate)
    if scheduler.type in ("WarmupDecayLR", "WarmupCosineLR"):
        params["total_num_steps"] = facts.total_steps or "auto"
    return {"scheduler": {"type": scheduler.type, "params": {**params, **scheduler.params}}}


def _warmup_steps(given: float, total_steps: int | None) -> int | str:
    """By TrainingArguments.get_warmup_steps, and at least 1, which DeepSpeed's schedulers demand."""
    if given >= 1 or given == 0:
        return max(1, int(given))
    return "auto" if total_steps is None else max(1, math.ceil(given * total_steps))
