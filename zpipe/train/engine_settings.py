"""Reads settings from a running DeepSpeed engine by their keys in the JSON."""

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from zpipe.plans.plan import Plan
from zpipe.train.kernels import is_compiled_in_regions
from zpipe.trees import value_at

MISSING = object()
"""Marks a key that DeepSpeed did not read."""

SHORT_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

Source = Callable[[Any], Any]

BLOCKS: dict[str, Source] = {
    "zero_optimization": lambda config: config.zero_config,
    "fp16": lambda config: config.float16_config,
    "bf16": lambda config: config.bfloat16_config,
    "compile": lambda config: config.compile_config,
    "flops_profiler": lambda config: config.flops_profiler_config,
    "activation_checkpointing": lambda config: config.activation_checkpointing_config,
    "aio": lambda config: config.aio_config,
    "comms_logger": lambda config: config.comms_config.comms_logger,
    "tensor_parallel": lambda config: config.tensor_parallel_config,
    "timers": lambda config: {"throughput": config.timers_config},
    "tensorboard": lambda config: config.monitor_config.tensorboard,
    "csv_monitor": lambda config: config.monitor_config.csv_monitor,
    "wandb": lambda config: config.monitor_config.wandb,
    "comet": lambda config: config.monitor_config.comet,
    "data_types": lambda config: config,
    "torch_autocast": lambda config: {
        "enabled": config.torch_autocast_enabled,
        "dtype": str(config.torch_autocast_dtype).removeprefix("torch."),
        "lower_precision_safe_modules": config.torch_autocast_lower_precision_safe_modules,
    },
    "checkpoint": lambda config: {
        **config.checkpoint_config,
        "use_node_local_storage": config.use_node_local_storage,
    },
    "optimizer": lambda config: {
        "type": config.optimizer_name,
        "params": config.optimizer_params,
        "legacy_fusion": config.optimizer_legacy_fusion,
    },
    "scheduler": lambda config: {"type": config.scheduler_name, "params": config.scheduler_params},
}
"""Where DeepSpeedConfig stores the values of each block (deepspeed/runtime/config.py)."""

UNPARSED = ("vocabulary_size",)
"""Keys that DeepSpeed reads directly from the JSON when it needs them."""

RUNNING: dict[str, tuple[str, ...]] = {
    "zero_optimization.reduce_bucket_size": ("reduce_bucket_size",),
    "zero_optimization.allgather_bucket_size": ("allgather_bucket_size",),
    "zero_optimization.contiguous_gradients": ("contiguous_gradients",),
    "zero_optimization.reduce_scatter": ("reduce_scatter",),
    "zero_optimization.overlap_comm": ("overlap_comm",),
    "zero_optimization.round_robin_gradients": ("round_robin_gradients",),
    "zero_optimization.sub_group_size": ("sub_group_size",),
    "zero_optimization.stage3_prefetch_bucket_size": ("prefetch_elements",),
    "gradient_clipping": ("clip_grad",),
}
"""Attributes of the ZeRO optimizers that take effect, regardless of the configuration."""


def parsed_value(engine: Any, key: str) -> Any:
    """The value that DeepSpeed read for a dotted key of the JSON, or MISSING if it did not read the key."""
    name, _, rest = key.partition(".")
    if name in UNPARSED:
        return engine._config._param_dict.get(name, MISSING)
    if not rest:
        return _plain(_get(engine._config, name))
    if name not in BLOCKS:
        return MISSING
    source = BLOCKS[name](engine._config)
    for part in rest.split("."):
        source = _get(source, part)
    return _plain(source)


def running_values(engine: Any, trainer: Any, plan: Plan) -> dict[str, tuple[Any, Any]]:
    """The planned and the actual value of each setting that can be read from the running objects."""
    zero = plan.ds_config["zero_optimization"]
    values = {
        "optimizer class": (plan.engine.optimizer, _optimizer_class(engine)),
        "scheduler class": (plan.engine.scheduler, _scheduler_class(engine, trainer)),
        "parameter dtype": (plan.engine.dtype, _plain(next(engine.module.parameters()).dtype)),
        "optimizer offload": (_device(zero, "offload_optimizer"), _optimizer_offload(engine)),
        "parameter offload": (_device(zero, "offload_param"), _parameter_offload(engine)),
        "zero_optimization.stage": (zero["stage"], int(engine.zero_optimization_stage())),
        "train_batch_size": (plan.ds_config["train_batch_size"], engine.train_batch_size()),
        "compile.regional": (bool(plan.experiment.compile.regional), is_compiled_in_regions(engine.module)),
    }
    for key, attributes in RUNNING.items():
        planned = value_at(plan.ds_config, key)
        for attribute in attributes:
            real = getattr(engine.optimizer, attribute, None)
            if planned not in (None, "auto") and real is not None:
                values[key] = (planned, _plain(real))
    return values


def _device(zero: Mapping[str, Any], block: str) -> str:
    return str(zero.get(block, {}).get("device", "none"))


def _optimizer_class(engine: Any) -> str:
    return type(engine.basic_optimizer).__name__


def _scheduler_class(engine: Any, trainer: Any) -> str:
    return type(scheduler_of(engine, trainer)).__name__


def scheduler_of(engine: Any, trainer: Any) -> Any:
    """The scheduler itself: DeepSpeed's, or torch's inside accelerate's wrapper."""
    return engine.lr_scheduler or getattr(trainer.lr_scheduler, "scheduler", trainer.lr_scheduler)


def _optimizer_offload(engine: Any) -> str:
    optimizer = engine.optimizer
    if getattr(optimizer, "swap_optimizer", False):
        return "nvme"
    is_on_host = getattr(optimizer, "cpu_offload", False) or getattr(optimizer, "offload_optimizer", False)
    return "cpu" if is_on_host else "none"


def _parameter_offload(engine: Any) -> str:
    optimizer = engine.optimizer
    if not getattr(optimizer, "offload_param", False):
        return "none"
    return "nvme" if getattr(optimizer, "params_in_nvme_and_cpu", False) else "cpu"


def _get(source: Any, name: str) -> Any:
    """A key of a mapping, a field of a pydantic model (by name or alias) or an attribute."""
    if isinstance(source, Mapping):
        return source.get(name, MISSING)
    for field, info in getattr(type(source), "model_fields", {}).items():
        if name == info.alias:
            return getattr(source, field)
    return getattr(source, name, MISSING)


def _plain(value: Any) -> Any:
    """The value as written in the JSON."""
    if isinstance(value, torch.dtype):
        return SHORT_NAMES.get(value, str(value))
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
