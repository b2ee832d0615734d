"""Compares two DeepSpeed JSONs as transformers completes them and DeepSpeed reads them."""

import copy
from types import SimpleNamespace
from typing import Any

from tests.support.planning import H200, gpus
from zpipe.converters.resolve_optimizing import WARMUP_NUM_STEPS
from zpipe.plan.plan import Plan
from zpipe.trees import leaves

BLOCKS = {
    "zero_config": "zero_optimization",
    "float16_config": "fp16",
    "bfloat16_config": "bf16",
    "aio_config": "aio",
    "compile_config": "compile",
    "hybrid_engine": "hybrid_engine",
    "flops_profiler_config": "flops_profiler",
    "activation_checkpointing_config": "activation_checkpointing",
    "comms_config": "comms_logger",
    "monitor_config": "monitor",
    "timers_config": "timers",
    "tensor_parallel_config": "tensor_parallel",
    "optimizer_name": "optimizer.type",
    "optimizer_params": "optimizer.params",
    "scheduler_name": "scheduler.type",
    "scheduler_params": "scheduler.params",
}
"""Attributes of DeepSpeedConfig and their names in the JSON. Other attributes have the same name in both."""

ADAM_W_MODE_DEFAULT = True
ONE_GPU = gpus(H200)


def filled_by_transformers(config: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """The JSON after transformers replaced every `auto` from the plan's TrainingArguments.

    Raises ValueError, as transformers does, if the JSON contradicts the arguments.
    """
    from transformers import TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    batch = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    completed = {"zero_optimization": {}, **dict.fromkeys(batch, "auto"), **copy.deepcopy(config)}
    given = {"fp16_full_eval": False, "bf16_full_eval": False, **plan.training_arguments}
    arguments = SimpleNamespace(world_size=plan.launch.world_size, **given)
    arguments.get_warmup_steps = lambda steps: TrainingArguments.get_warmup_steps(arguments, steps)
    if given["bf16"]:
        completed.setdefault("bf16", {"enabled": True})  # accelerate: DeepSpeedPlugin.set_mixed_precision
    holder = HfTrainerDeepSpeedConfig(completed)
    holder.trainer_config_process(arguments)
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=plan.model.hidden_size))
    holder.trainer_config_finalize(arguments, model, plan.training_arguments["max_steps"])
    return dict(holder.config)


def read_by_deepspeed(config: dict[str, Any]) -> dict[str, Any]:
    """The values that DeepSpeedConfig reads from a JSON on one rank, by the JSON's dotted keys."""
    from deepspeed.runtime.config import DeepSpeedConfig

    read = DeepSpeedConfig(_with_class_defaults(copy.deepcopy(config)))
    names = {name: value for name, value in vars(read).items() if not name.startswith("_")}
    return dict(leaves({BLOCKS.get(name, name): _plain(value) for name, value in names.items()}))


def _with_class_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Adds the defaults of DeepSpeed's Adam and its warmup schedulers for missing keys."""
    optimizer, scheduler = config.get("optimizer", {}), config.get("scheduler", {})
    if optimizer.get("type", "").lower() in ("adam", "adamw"):
        optimizer["params"].setdefault("adam_w_mode", ADAM_W_MODE_DEFAULT)
    if scheduler.get("type") in ("WarmupLR", "WarmupDecayLR"):
        scheduler["params"].setdefault("warmup_max_lr", optimizer["params"]["lr"])
    if str(scheduler.get("type")).startswith("Warmup"):
        scheduler["params"].setdefault("warmup_num_steps", WARMUP_NUM_STEPS)
    return config


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(by_alias=True)
    if hasattr(value, "__dict__") and not callable(value):
        return {name: _plain(inner) for name, inner in vars(value).items()}
    return value


def differences(config: dict[str, Any], plan: Plan) -> dict[str, tuple[Any, Any]]:
    """Keys that DeepSpeed reads differently from the plan's JSON, with both values."""
    theirs, ours = read_by_deepspeed(filled_by_transformers(config, plan)), read_by_deepspeed(plan.ds_config)
    keys = theirs.keys() | ours.keys()
    return {key: (theirs.get(key), ours.get(key)) for key in keys if theirs.get(key) != ours.get(key)}
