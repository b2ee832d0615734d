"""When two DeepSpeed JSONs mean the same: transformers fills in, and DeepSpeed's own classes read."""

import copy
from types import SimpleNamespace
from typing import Any

from tests.support.planning import H200, gpus
from zpipe.converters.resolve import WARMUP_NUM_STEPS
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
"""DeepSpeedConfig's attributes, by the JSON's names for them; others have the same name."""

ADAM_W_MODE_DEFAULT = True
ONE_GPU = gpus(H200)


def filled_by_transformers(config: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """The JSON after transformers put the plan's TrainingArguments in the place of every `auto`.

    Raises ValueError, as transformers does, where the JSON contradicts the arguments.
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
    """What the installed DeepSpeedConfig makes of a JSON on one rank, by the JSON's dotted keys."""
    from deepspeed.runtime.config import DeepSpeedConfig

    read = DeepSpeedConfig(_with_defaults_of_classes(copy.deepcopy(config)))
    names = {name: value for name, value in vars(read).items() if not name.startswith("_")}
    return dict(leaves({BLOCKS.get(name, name): _plain(value) for name, value in names.items()}))


def _with_defaults_of_classes(config: dict[str, Any]) -> dict[str, Any]:
    """What DeepSpeed's Adam and its warmup make of keys that are not there."""
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
    """Keys that DeepSpeed would read otherwise from the plan's JSON, with both values."""
    theirs, ours = read_by_deepspeed(filled_by_transformers(config, plan)), read_by_deepspeed(plan.ds_config)
    keys = theirs.keys() | ours.keys()
    return {key: (theirs.get(key), ours.get(key)) for key in keys if theirs.get(key) != ours.get(key)}
