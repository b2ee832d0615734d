"""What the installed DeepSpeed reads: the keys of its blocks, and those of the top level."""

import ast
from pathlib import Path

from pydantic import BaseModel

from zpipe.schema import checkpoint, deepspeed, engine, offload, precision, stage, zenflow
from zpipe.schema.base import Group

DEPRECATED = {
    "cpu_offload",
    "cpu_offload_param",
    "cpu_offload_use_pin_memory",
    "stage3_gather_fp16_weights_on_model_save",
}


def names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def fields(group: type[Group]) -> set[str]:
    return set(group.model_fields)


def blocks() -> dict[str, tuple[set[str], set[str]]]:
    """For each checked block of DeepSpeed's: its keys there and here."""
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.compile.config import CompileConfig
    from deepspeed.inference.config import WeightQuantConfig
    from deepspeed.monitor.config import CometConfig, CSVConfig, TensorBoardConfig, WandbConfig
    from deepspeed.runtime.config import HybridEngineConfig
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.swap_tensor.aio_config import AIO_DEFAULT_DICT
    from deepspeed.runtime.tensor_parallel.config import TPTrainingConfig
    from deepspeed.runtime.zenflow.zenflow_config import ZenFlowConfig
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.leaf_module_config import DeepSpeedZeroLeafModuleConfig
    from deepspeed.runtime.zero.offload_config import (
        DeepSpeedZeroOffloadOptimizerConfig,
        DeepSpeedZeroOffloadParamConfig,
    )
    from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

    offload_blocks = {"offload_param", "offload_optimizer"}
    return {
        "zero_optimization": (names(DeepSpeedZeroConfig) - DEPRECATED - offload_blocks, fields(stage.Stage)),
        "offload_optimizer": (
            names(DeepSpeedZeroOffloadOptimizerConfig) - {"nvme_path"},
            fields(offload.OffloadOptimizer),
        ),
        "offload_param": (
            names(DeepSpeedZeroOffloadParamConfig) - {"nvme_path"},
            fields(offload.OffloadParam),
        ),
        "leaf_module": (names(DeepSpeedZeroLeafModuleConfig), fields(stage.LeafModule)),
        "zenflow": (names(ZenFlowConfig) - {"steps_per_epoch"}, fields(zenflow.ZenFlow)),
        "aio": (set(AIO_DEFAULT_DICT), fields(offload.Aio)),
        "fp16": (names(DeepSpeedFP16Config) - {"enabled"}, fields(precision.Fp16)),
        "bf16": (names(DeepSpeedBF16Config) - {"enabled"}, fields(precision.Bf16)),
        "compile": (names(CompileConfig), fields(engine.Compile)),
        "comms_logger": (names(CommsLoggerConfig), fields(engine.CommsLogger)),
        "timers.throughput": (names(DeepSpeedThroughputTimerConfig), fields(engine.ThroughputTimer)),
        "tensor_parallel": (names(TPTrainingConfig), fields(deepspeed.TensorParallel)),
        "tensorboard": (names(TensorBoardConfig), fields(deepspeed.TensorBoard)),
        "csv_monitor": (names(CSVConfig), fields(deepspeed.CsvMonitor)),
        "wandb": (names(WandbConfig), fields(deepspeed.Wandb)),
        "comet": (names(CometConfig), fields(deepspeed.Comet)),
        "hybrid_engine": (names(HybridEngineConfig), fields(deepspeed.HybridEngine)),
        "weight_quantization": (names(WeightQuantConfig), fields(deepspeed.WeightQuantization)),
        "activation_checkpointing": (
            constants("runtime/activation_checkpointing/config.py", "ACT_CHKPT_"),
            fields(engine.ActivationCheckpointing) - {"enabled"},
        ),
        "flops_profiler": (
            constants("profiling/constants.py", "FLOPS_PROFILER_"),
            fields(engine.FlopsProfiler),
        ),
        "data_types": (
            {"grad_accum_dtype", "param_dtype", "buffer_dtype", "keep_in_fp32_modules"},
            fields(precision.DataTypes),
        ),
        "torch_autocast": (
            constants("runtime/constants.py", "TORCH_AUTOCAST_"),
            fields(precision.TorchAutocast),
        ),
        "checkpoint.writer": (
            {
                "type",
                "io_buffer_size",
                "io_buffer_double",
                "io_multiplier",
                "show_statistics",
                "data_parallel",
                "decoupled",
            },
            fields(checkpoint.CheckpointWriter),
        ),
    }


def constants(file: str, prefix: str) -> set[str]:
    """Values of the constants that name keys: those with the prefix that are neither defaults nor formats."""
    import deepspeed as package

    tree = ast.parse((Path(package.__file__).parent / file).read_text())
    values: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            (target,) = node.targets
            name = getattr(target, "id", "")
            if name.startswith(prefix) and not name.endswith(("_DEFAULT", "_FORMAT")):
                values.add(str(node.value.value))
    return values


def top_level_keys() -> set[str]:
    """Reads DeepSpeedConfig once with a dictionary that notes what it is asked for."""
    import deepspeed.comm as dist
    from deepspeed.runtime.config import DeepSpeedConfig

    class Noting(dict):  # type: ignore[type-arg]
        asked: set[str] = set()

        def __contains__(self, key: object) -> bool:
            Noting.asked.add(str(key))
            return super().__contains__(key)

        def get(self, key, default=None):  # type: ignore[no-untyped-def]
            Noting.asked.add(key)
            return super().get(key, default)

        def keys(self):  # type: ignore[no-untyped-def]
            return KeysView(self)

        def __copy__(self):  # type: ignore[no-untyped-def]
            return self

    class KeysView:
        def __init__(self, owner: Noting) -> None:
            self.owner = owner

        def __contains__(self, key: object) -> bool:
            return key in self.owner

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(dict.keys(self.owner))

    assert not dist.is_initialized()
    DeepSpeedConfig(
        Noting(train_batch_size=1, train_micro_batch_size_per_gpu=1, gradient_accumulation_steps=1)
    )
    return Noting.asked
