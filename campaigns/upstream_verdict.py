"""Whether transformers' Trainer would take a file as it is, with TrainingArguments that agree with it."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.upstream import (
    NOT_PASSED,
    Run,
    completed,
    is_offloaded,
    optimizer_class,
    read,
    scheduler_class,
)
from zpipe.trees import value_at


def verdict(config: Mapping[str, Any], mixed_precision: str = "no", processes: int = 0) -> str:
    """Empty if the libraries take the JSON; otherwise the first thing that they say."""
    run = agreeing_run(config, mixed_precision, processes)
    try:
        final = completed(config, run)
        read(final, run.processes)
        _optimizer(final)
        _scheduler(final)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def agreeing_run(config: Mapping[str, Any], mixed_precision: str, processes: int) -> Run:
    """A run whose arguments have the values that the JSON sets."""
    total, micro = (_number(config, name) for name in ("train_batch_size", "train_micro_batch_size_per_gpu"))
    accumulation = _number(config, "gradient_accumulation_steps") or 1
    if not processes:
        processes = max(1, total // (micro * accumulation)) if total and micro else 1
    betas = value_at(config, "optimizer.params.betas")
    dtypes = {name: mixed_precision == name or _is_on(config, name) for name in ("fp16", "bf16")}
    clipping = _number(config, "gradient_clipping")
    return Run(
        {
            "per_device_train_batch_size": micro or (total // (accumulation * processes) if total else 8),
            "gradient_accumulation_steps": accumulation,
            "max_grad_norm": 1.0 if clipping is None else clipping,
            "learning_rate": _first(config, "optimizer.params.lr", "scheduler.params.warmup_max_lr", 5e-5),
            "adam_beta1": betas[0] if isinstance(betas, list) else 0.9,
            "adam_beta2": betas[1] if isinstance(betas, list) and len(betas) > 1 else 0.999,
            "adam_epsilon": _first(config, "optimizer.params.eps", "", 1e-8),
            "weight_decay": _first(config, "optimizer.params.weight_decay", "", 0.0),
            "warmup_steps": _first(config, "scheduler.params.warmup_num_steps", "", 0),
            **dtypes,
        },
        processes=processes,
        total_steps=_first(config, "scheduler.params.total_num_steps", "", 1000),
    )


def _number(config: Mapping[str, Any], key: str) -> Any:
    value = value_at(config, key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _first(config: Mapping[str, Any], key: str, other: str, default: float) -> Any:
    numbers = [_number(config, each) for each in (key, other) if each]
    return next((number for number in numbers if number is not None), default)


def _is_on(config: Mapping[str, Any], dtype: str) -> bool:
    block = config.get(dtype)
    return isinstance(block, Mapping) and block.get("enabled") in (True, "true", "True", 1)


def _optimizer(config: Mapping[str, Any]) -> None:
    """What the engine raises when it builds the optimizer."""
    block = config.get("optimizer")
    if block is None or block.get("type") is None:
        return
    params = block.get("params") or {}
    if str(block["type"]).lower().startswith("mu") and block["type"].lower() != "muon":
        raise ImportError("mup is not installed")
    found = optimizer_class(str(block["type"]), is_offloaded(config), params)
    if found is None and block["type"].lower() != "muon":
        raise AssertionError(f"{block['type']} is not a supported DeepSpeed Optimizer")
    adam = NOT_PASSED if block["type"].lower() in ("adam", "adamw") else frozenset()
    _accepts(found, {name for name in params if name not in adam})


def _scheduler(config: Mapping[str, Any]) -> None:
    block = config.get("scheduler")
    if block is None or block.get("type") is None:
        return
    found = scheduler_class(str(block["type"]))
    if found is None:
        raise AssertionError(f"DeepSpeed does not recognize LR scheduler {block['type']}")
    _accepts(found, set(block.get("params") or {}))


def _accepts(function: Any, names: set[str]) -> None:
    if function is None:
        return
    unknown = names - set(inspect.signature(function).parameters)
    if unknown:
        raise TypeError(f"{function.__name__} got an unexpected keyword argument {sorted(unknown)[0]}")


def accelerate_json(content: Mapping[str, Any], nested: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """The JSON that `accelerate launch` passes on. Raises what it raises, also for a name without a file."""
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.utils import DeepSpeedPlugin
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    known = set(ClusterConfig.__dataclass_fields__) | {"fp16", "dynamo_backend"}
    unknown = sorted(set(content) - known)
    if unknown:
        raise ValueError(f"unknown keys ({unknown})")
    if content.get("distributed_type") != "DEEPSPEED":
        raise ValueError("not DeepSpeed")
    plugin = content.get("deepspeed_config") or {}
    if nested is not None:
        return dict(nested) if isinstance(nested, Mapping) else dict(HfDeepSpeedConfig(nested).config)
    names = ("gradient_accumulation_steps", "gradient_clipping", "zero_stage", "zero3_save_16bit_model")
    devices = ("offload_optimizer_device", "offload_param_device")
    given = {name: plugin[name] for name in (*names, *devices) if plugin.get(name) is not None}
    built = dict(DeepSpeedPlugin(**given).deepspeed_config)
    built.pop("steps_per_print")
    return built


def referenced(file: Path, name: str) -> Path | None:
    """The JSON that an accelerate configuration names, relative to a folder above the file."""
    return next((folder / name for folder in file.parents if (folder / name).is_file()), None)
