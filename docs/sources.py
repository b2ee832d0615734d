"""Where the facts of docs/configuration.md come from: the schema's own text, and the installed libraries."""

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
    """For each field the string that stands under it."""
    module = ast.parse(inspect.getsource(inspect.getmodule(group) or group))
    body = next(
        node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == group.__name__
    )
    found = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split())  # type: ignore[attr-defined]
    return found


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
    """The first sentence of transformers' own help; empty for what is no argument of its."""
    return re.split(r"(?<=[.!])\s", _training_arguments().get(name, "").strip())[0]


@cache
def deepspeed_defaults() -> dict[str, Any]:
    """The value that DeepSpeed takes for each key of its JSON that is not there, as far as there is one."""
    read = _read_when_empty()
    found = {name: _first(read, name) for name in experiment_keys()}
    return {**found, **_of_blocks(), **_of_classes(), "zero_optimization.overlap_comm": "true at stage 3"}


def _read_when_empty() -> dict[str, Any]:
    """What DeepSpeedConfig makes of a JSON with nothing but a batch size and empty blocks."""
    from deepspeed.runtime.config import DeepSpeedConfig

    zero = {"offload_optimizer": {}, "offload_param": {}, "zenflow": {}}
    batch = dict.fromkeys(
        ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), 1
    )
    read = vars(DeepSpeedConfig({**batch, "zero_optimization": zero, "weight_quantization": {}}))
    return dict(leaves({name: _plain(value) for name, value in read.items() if not name.startswith("_")}))


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
"""Names of the JSON, and what DeepSpeedConfig's attributes have in their place."""


def _first(read: dict[str, Any], name: str) -> Any:
    """The attribute of a key: its own name, its block's name with _config behind it, or one of the above."""
    if name.startswith(("optimizer.", "scheduler.", "train_batch", "train_micro", "gradient_accumulation")):
        return None
    block, _, rest = name.partition(".")
    candidates = [name, f"{block}_config.{rest}", f"monitor_config.{name}"]
    candidates += [new + name.removeprefix(old) for old, new in ATTRIBUTES.items() if name.startswith(old)]
    return next((read[each] for each in candidates if read.get(each) is not None), None)


def _of_blocks() -> dict[str, Any]:
    from deepspeed.comm.config import CommsLoggerConfig

    return {f"comms_logger.{name}": field.default for name, field in CommsLoggerConfig.model_fields.items()}


def _of_classes() -> dict[str, Any]:
    """Parameters of optimizers and schedulers, where all classes that take one agree on its default."""
    import torch
    from deepspeed.ops.adam import FusedAdam
    from deepspeed.ops.lamb import FusedLamb
    from deepspeed.runtime import lr_schedules

    from zpipe.schema.optimizer import TORCH_TYPES

    optimizers = [FusedAdam, FusedLamb, *(getattr(torch.optim, name) for name in TORCH_TYPES)]
    schedulers = [getattr(lr_schedules, name) for name in lr_schedules.VALID_LR_SCHEDULES]
    return {
        **{f"optimizer.params.{name}": value for name, value in _agreed(optimizers).items()},
        **{f"scheduler.params.{name}": value for name, value in _agreed(schedulers).items()},
    }


def _agreed(classes: list[Callable[..., Any]]) -> dict[str, Any]:
    seen: dict[str, list[Any]] = {}
    for each in classes:
        for name, parameter in inspect.signature(each).parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                seen.setdefault(name, []).append(parameter.default)
    return {name: values[0] for name, values in seen.items() if all(value == values[0] for value in values)}
