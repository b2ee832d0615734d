"""Collects the facts of docs/configuration.md from the schema and the installed libraries."""

import ast
import dataclasses
import inspect
import os
import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

from zpipe.schema.base import Group
from zpipe.schema.json_names import experiment_keys
from zpipe.trees import leaves

os.environ.setdefault("DS_ACCELERATOR", "cpu")


@cache
def meanings(group: type[Group]) -> dict[str, str]:
    """The docstring of each field of a group."""
    module = ast.parse(inspect.getsource(inspect.getmodule(group) or group))
    body = next(
        node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == group.__name__
    )
    docstrings = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
            docstrings[field.target.id] = " ".join(ast.literal_eval(text.value).split())  # type: ignore[attr-defined]
    return docstrings


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def _training_arguments() -> dict[str, str]:
    from transformers import TrainingArguments

    return {
        field.name: str(field.metadata.get("help", "")) for field in dataclasses.fields(TrainingArguments)
    }


def trainer_help(name: str) -> str:
    """The first sentence of transformers' help for a training argument; empty for other names."""
    return re.split(r"(?<=[.!])\s", _training_arguments().get(name, "").strip())[0]


@cache
def deepspeed_defaults() -> dict[str, Any]:
    """DeepSpeed's default for each key of its JSON that has one."""
    parsed = _parsed_empty_config()
    found = {name: _default(parsed, name) for name in experiment_keys()}
    return {
        **found,
        **_comms_logger_defaults(),
        **_parameter_defaults(),
        "zero_optimization.overlap_comm": "true at stage 3",
    }


def _parsed_empty_config() -> dict[str, Any]:
    """The attributes of a DeepSpeedConfig made from a batch size and empty blocks only, by dotted name."""
    from deepspeed.runtime.config import DeepSpeedConfig

    zero: dict[str, Any] = {"offload_optimizer": {}, "offload_param": {}, "zenflow": {}}
    batch = dict.fromkeys(
        ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), 1
    )
    config = vars(DeepSpeedConfig({**batch, "zero_optimization": zero, "weight_quantization": {}}))
    return dict(leaves({name: _plain(value) for name, value in config.items() if not name.startswith("_")}))


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(by_alias=True)
    if hasattr(value, "__dict__") and not callable(value):
        return {name: _plain(inner) for name, inner in vars(value).items()}
    return value


ATTRIBUTES = {
    "zero_optimization.": "zero_config.",
    "fp16.": "float16_config.",
    "bf16.": "bfloat16_config.",
    "timers.throughput.": "timers_config.",
    "checkpoint.": "checkpoint_config.",
    "data_types.": "",
    "torch_autocast.": "torch_autocast_",
}
"""Prefixes of keys in the JSON, and the prefixes of DeepSpeedConfig's attributes that replace them."""


def _default(parsed: dict[str, Any], name: str) -> Any:
    """The value of a key: under its name, its block's name with the suffix _config, or as in ATTRIBUTES."""
    if name.startswith(("optimizer.", "scheduler.", "train_batch", "train_micro", "gradient_accumulation")):
        return None
    block, _, rest = name.partition(".")
    candidates = [name, f"{block}_config.{rest}", f"monitor_config.{name}"]
    candidates += [new + name.removeprefix(old) for old, new in ATTRIBUTES.items() if name.startswith(old)]
    return next((parsed[each] for each in candidates if parsed.get(each) is not None), None)


def _comms_logger_defaults() -> dict[str, Any]:
    from deepspeed.comm.config import CommsLoggerConfig

    return {f"comms_logger.{name}": field.default for name, field in CommsLoggerConfig.model_fields.items()}


def _parameter_defaults() -> dict[str, Any]:
    """Defaults of optimizer and scheduler parameters on which all classes with the parameter agree."""
    import torch
    from deepspeed.ops.adam import FusedAdam
    from deepspeed.ops.lamb import FusedLamb
    from deepspeed.runtime import lr_schedules

    from zpipe.schema.optimizer import TORCH_TYPES

    optimizers = [FusedAdam, FusedLamb, *(getattr(torch.optim, name) for name in TORCH_TYPES)]
    schedulers = [getattr(lr_schedules, name) for name in lr_schedules.VALID_LR_SCHEDULES]
    return {
        **{f"optimizer.params.{name}": value for name, value in _common_defaults(optimizers).items()},
        **{f"scheduler.params.{name}": value for name, value in _common_defaults(schedulers).items()},
    }


def _common_defaults(classes: list[Callable[..., Any]]) -> dict[str, Any]:
    defaults: dict[str, list[Any]] = {}
    for each in classes:
        for name, parameter in inspect.signature(each).parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                defaults.setdefault(name, []).append(parameter.default)
    return {
        name: values[0] for name, values in defaults.items() if all(value == values[0] for value in values)
    }
