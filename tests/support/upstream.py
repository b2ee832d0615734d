"""What transformers, accelerate and DeepSpeed make of a DeepSpeed JSON, through their own classes.

The order is that of transformers.Trainer: TrainingArguments fill the JSON, accelerate's plugin adds what is
missing, and DeepSpeedConfig reads the result. Nothing is started.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

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
    "autotuning_config": "autotuning",
    "data_efficiency_config": "data_efficiency",
    "data_efficiency_enabled": "data_efficiency.enabled",
    "optimizer_name": "optimizer.type",
    "optimizer_params": "optimizer.params",
    "scheduler_name": "scheduler.type",
    "scheduler_params": "scheduler.params",
    "torch_autocast_enabled": "torch_autocast.enabled",
    "torch_autocast_dtype": "torch_autocast.dtype",
    "torch_autocast_lower_precision_safe_modules": "torch_autocast.lower_precision_safe_modules",
    "grad_accum_dtype": "data_types.grad_accum_dtype",
    "param_dtype": "data_types.param_dtype",
    "buffer_dtype": "data_types.buffer_dtype",
    "keep_in_fp32_modules": "data_types.keep_in_fp32_modules",
    "checkpoint_tag_validation_enabled": "checkpoint.tag_validation",
    "checkpoint_tag_validation_fail": "checkpoint.tag_validation.fail",
    "load_universal_checkpoint": "checkpoint.load_universal",
    "use_node_local_storage": "checkpoint.use_node_local_storage",
    "checkpoint_parallel_write_pipeline": "checkpoint.parallel_write.pipeline_stage",
    "checkpoint_config": "checkpoint.writer",
    "expert_parallel_config": "expert_parallel",
    "datastates_config": "datastates_ckpt",
    "weight_quantization_config": "weight_quantization",
    "use_data_before_expert_parallel_": "use_data_before_expert_parallelism",
}
"""Attributes of DeepSpeedConfig and their names in the JSON. Other attributes have the same name in both."""

DERIVED = frozenset({"zero_optimization_stage", "zero_enabled", "world_size", "global_rank"})
"""Attributes that repeat others or belong to the process."""


@dataclass(frozen=True)
class Run:
    """What TrainingArguments, the model and the launcher say about a run."""

    arguments: Mapping[str, Any]
    processes: int = 1
    hidden_size: int | None = 64
    total_steps: int = 1000
    given: dict[str, Any] = field(default_factory=dict)

    def namespace(self) -> SimpleNamespace:
        """The arguments as transformers' deepspeed integration reads them."""
        from transformers import TrainingArguments

        needed = {"fp16_full_eval": False, "bf16_full_eval": False, "save_on_each_node": False}
        arguments = SimpleNamespace(world_size=self.processes, **{**needed, **self.arguments})
        arguments.get_warmup_steps = lambda steps: TrainingArguments.get_warmup_steps(arguments, steps)
        return arguments

    @property
    def mixed_precision(self) -> str:
        return next((dtype for dtype in ("fp16", "bf16") if self.arguments[dtype]), "no")


def completed(config: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The JSON that reaches deepspeed.initialize. Raises what transformers and accelerate raise."""
    from accelerate.utils import DeepSpeedPlugin
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    arguments = run.namespace()
    holder = HfTrainerDeepSpeedConfig(copy.deepcopy(dict(config)))
    holder.trainer_config_process(arguments)
    plugin = DeepSpeedPlugin(hf_ds_config=holder)
    plugin.set_mixed_precision(run.mixed_precision)
    holder.trainer_config_finalize(
        arguments, SimpleNamespace(config=SimpleNamespace(hidden_size=run.hidden_size)), run.total_steps
    )
    plugin.deepspeed_config_process(must_match=False, **_of_prepare(plugin, run))
    return dict(plugin.deepspeed_config)


def _of_prepare(plugin: Any, run: Run) -> dict[str, Any]:
    """What Accelerator._prepare_deepspeed fills in; DummyOptim and DummyScheduler have these defaults."""
    size = run.hidden_size or 0
    values: dict[str, Any] = {
        "gradient_clipping": 1.0,
        "zero_optimization.stage3_gather_16bit_weights_on_model_save": False,
        "zero_optimization.reduce_bucket_size": size * size,
        "zero_optimization.stage3_prefetch_bucket_size": int(0.9 * size * size),
        "zero_optimization.stage3_param_persistence_threshold": 10 * size,
    }
    micro = plugin.get_value("train_micro_batch_size_per_gpu")
    if micro is not None:
        steps = plugin.get_value("gradient_accumulation_steps")
        values["train_micro_batch_size_per_gpu"] = micro
        values["train_batch_size"] = micro * steps * run.processes
    if "optimizer" in plugin.deepspeed_config:
        values |= {"optimizer.params.lr": 0.001, "optimizer.params.weight_decay": 0}
    if "scheduler" in plugin.deepspeed_config:
        rates = {"warmup_min_lr": 0, "warmup_max_lr": 0.001, "warmup_num_steps": 1}
        values |= {f"scheduler.params.{name}": value for name, value in rates.items()}
    return values


def read(config: Mapping[str, Any], processes: int = 1) -> dict[str, Any]:
    """The values that DeepSpeedConfig reads, by the JSON's dotted keys. Raises what DeepSpeed raises."""
    from deepspeed.runtime.config import DeepSpeedConfig

    with _processes(processes):
        found = DeepSpeedConfig(with_class_defaults(copy.deepcopy(dict(config))))
    names = {name: value for name, value in vars(found).items() if not name.startswith("_")}
    tree = {BLOCKS.get(name, name): plain(value) for name, value in names.items() if name not in DERIVED}
    for name in ("offload_optimizer", "offload_param"):
        block = tree["zero_optimization"].get(name)
        if block is not None and block["device"] == "none":
            tree["zero_optimization"][name] = None  # the same to the engine as a missing block
    return dict(leaves(tree))


@contextmanager
def _processes(count: int) -> Iterator[None]:
    """DeepSpeedConfig asks torch.distributed, which is not running, for the number of processes."""
    group = SimpleNamespace(get_rank=lambda *_: 0, get_world_size=lambda *_: count)
    with patch("deepspeed.runtime.config.dist", group):
        yield


def plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(by_alias=True)
    if hasattr(value, "__dict__") and not callable(value):
        return {name: plain(inner) for name, inner in vars(value).items()}
    return value


def with_class_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Adds the defaults of the optimizer's and the scheduler's class for missing parameters."""
    optimizer, scheduler = config.get("optimizer") or {}, config.get("scheduler") or {}
    if "type" in optimizer:
        optimizer["params"] = {
            **optimizer_defaults(str(optimizer["type"]), is_offloaded(config), optimizer.get("params")),
            **(optimizer.get("params") or {}),
        }
    if "type" in scheduler:
        own = scheduler_defaults(str(scheduler["type"]))
        if "warmup_max_lr" in own and own["warmup_max_lr"] is None:
            own["warmup_max_lr"] = (optimizer.get("params") or {}).get("lr")  # that of the parameter groups
        scheduler["params"] = {**own, **(scheduler.get("params") or {})}
    return config


def is_offloaded(config: Mapping[str, Any]) -> bool:
    zero = config.get("zero_optimization") or {}
    block = zero.get("offload_optimizer") or {} if isinstance(zero, Mapping) else {}
    return bool(zero.get("cpu_offload")) or block.get("device") in ("cpu", "nvme")


def optimizer_class(kind: str, offloaded: bool, params: Mapping[str, Any] | None) -> Any:
    """The class that engine._configure_basic_optimizer builds; None if there is none."""
    import torch
    from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
    from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam
    from deepspeed.ops.lamb import FusedLamb
    from deepspeed.ops.lion import DeepSpeedCPULion, FusedLion

    name = kind.lower()
    if name in ("adam", "adamw"):
        if (params or {}).get("torch_adam"):
            return torch.optim.AdamW
        return DeepSpeedCPUAdam if offloaded else FusedAdam
    own = {
        "adagrad": DeepSpeedCPUAdagrad if offloaded else torch.optim.Adagrad,
        "lamb": FusedLamb,
        "lion": DeepSpeedCPULion if offloaded else FusedLion,
    }
    found = own.get(name, getattr(torch.optim, kind, None))
    return found if isinstance(found, type) else None


NOT_PASSED = frozenset({"adam_w_mode", "torch_adam", "fp32_optimizer_states"})
"""Parameters of Adam that DeepSpeed takes out before it builds the optimizer."""


def optimizer_defaults(kind: str, offloaded: bool, params: Mapping[str, Any] | None) -> dict[str, Any]:
    shared = ("lr", "betas", "eps", "weight_decay")
    found = optimizer_class(kind, offloaded, params)
    own = {name: value for name, value in defaults_of(found).items() if name in shared} if found else {}
    if "betas" in own:
        own["betas"] = list(own["betas"])
    return {**own, "adam_w_mode": True} if kind.lower() in ("adam", "adamw") else own


def scheduler_class(kind: str) -> Any:
    """The class that engine._scheduler_from_config builds; None if there is none."""
    import torch
    from deepspeed.runtime import lr_schedules

    found = getattr(lr_schedules, kind, None) or getattr(torch.optim.lr_scheduler, kind, None)
    return found if isinstance(found, type) else None


def scheduler_defaults(kind: str) -> dict[str, Any]:
    found = scheduler_class(kind)
    return defaults_of(found) if found is not None else {}


def defaults_of(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
