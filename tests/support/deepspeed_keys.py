"""The keys that the installed DeepSpeed reads: those of its blocks, and the top-level ones."""

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
    """Keys of one of DeepSpeed's models, as they are in the JSON."""
    return {field.alias or name for name, field in model.model_fields.items()}


def fields(group: type[Group]) -> set[str]:
    """Keys of a group of the schema."""
    return set(group.model_fields)


Keys = tuple[set[str], set[str]]


def blocks() -> dict[str, Keys]:
    """For each block: the keys of DeepSpeed, and the keys of the schema."""
    return {**_zero(), **_engine(), **_monitors(), **_inference(), **_without_a_model()}


def _zero() -> dict[str, Keys]:
    from deepspeed.runtime.swap_tensor.aio_config import AIO_DEFAULT_DICT
    from deepspeed.runtime.zenflow.zenflow_config import ZenFlowConfig
    from deepspeed.runtime.zero import offload_config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.leaf_module_config import DeepSpeedZeroLeafModuleConfig

    offload_blocks = {"offload_param", "offload_optimizer"}
    optimizer = names(offload_config.DeepSpeedZeroOffloadOptimizerConfig)
    parameters = names(offload_config.DeepSpeedZeroOffloadParamConfig)
    return {
        "zero_optimization": (names(DeepSpeedZeroConfig) - DEPRECATED - offload_blocks, fields(stage.Stage)),
        "offload_optimizer": (optimizer - {"nvme_path"}, fields(offload.OffloadOptimizer)),
        "offload_param": (parameters - {"nvme_path"}, fields(offload.OffloadParam)),
        "leaf_module": (names(DeepSpeedZeroLeafModuleConfig), fields(stage.LeafModule)),
        "zenflow": (names(ZenFlowConfig) - {"steps_per_epoch"}, fields(zenflow.ZenFlow)),
        "aio": (set(AIO_DEFAULT_DICT), fields(offload.Aio)),
    }


def _engine() -> dict[str, Keys]:
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.compile.config import CompileConfig
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.tensor_parallel.config import TPTrainingConfig
    from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

    return {
        "fp16": (names(DeepSpeedFP16Config) - {"enabled"}, fields(precision.Fp16)),
        "bf16": (names(DeepSpeedBF16Config) - {"enabled"}, fields(precision.Bf16)),
        "compile": (names(CompileConfig), fields(engine.Compile) - {"regional"}),
        "comms_logger": (names(CommsLoggerConfig), fields(engine.CommsLogger)),
        "timers.throughput": (names(DeepSpeedThroughputTimerConfig), fields(engine.ThroughputTimer)),
        "tensor_parallel": (names(TPTrainingConfig), fields(deepspeed.TensorParallel)),
    }


def _monitors() -> dict[str, Keys]:
    from deepspeed.monitor.config import CometConfig, CSVConfig, TensorBoardConfig, WandbConfig

    return {
        "tensorboard": (names(TensorBoardConfig), fields(deepspeed.TensorBoard)),
        "csv_monitor": (names(CSVConfig), fields(deepspeed.CsvMonitor)),
        "wandb": (names(WandbConfig), fields(deepspeed.Wandb)),
        "comet": (names(CometConfig), fields(deepspeed.Comet)),
    }


def _inference() -> dict[str, Keys]:
    from deepspeed.inference.config import WeightQuantConfig
    from deepspeed.runtime.config import HybridEngineConfig

    return {
        "hybrid_engine": (names(HybridEngineConfig), fields(deepspeed.HybridEngine)),
        "weight_quantization": (names(WeightQuantConfig), fields(deepspeed.WeightQuantization)),
    }


def _without_a_model() -> dict[str, Keys]:
    """Blocks for which DeepSpeed has no pydantic model: their keys are constants, or only in its code."""
    checkpointing = constants("runtime/activation_checkpointing/config.py", "ACT_CHKPT_")
    data_types = {"grad_accum_dtype", "param_dtype", "buffer_dtype", "keep_in_fp32_modules"}
    writer = {"type", "io_buffer_size", "io_buffer_double", "io_multiplier", "show_statistics"}
    writer |= {"data_parallel", "decoupled"}
    autocast = constants("runtime/constants.py", "TORCH_AUTOCAST_")
    flops = constants("profiling/constants.py", "FLOPS_PROFILER_")
    return {
        "activation_checkpointing": (checkpointing, fields(engine.ActivationCheckpointing) - {"enabled"}),
        "flops_profiler": (flops, fields(engine.FlopsProfiler)),
        "data_types": (data_types, fields(precision.DataTypes)),
        "torch_autocast": (autocast, fields(precision.TorchAutocast)),
        "checkpoint.writer": (writer, fields(checkpoint.CheckpointWriter)),
    }


def constants(file: str, prefix: str) -> set[str]:
    """Values of the constants with this prefix that are names of keys, not defaults or formats."""
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
    """Loads DeepSpeedConfig once with a dictionary that records every lookup."""
    import deepspeed.comm as dist
    from deepspeed.runtime.config import DeepSpeedConfig

    class Recording(dict):  # type: ignore[type-arg]
        looked_up: set[str] = set()

        def __contains__(self, key: object) -> bool:
            Recording.looked_up.add(str(key))
            return super().__contains__(key)

        def get(self, key, default=None):  # type: ignore[no-untyped-def]
            Recording.looked_up.add(key)
            return super().get(key, default)

        def keys(self):  # type: ignore[no-untyped-def]
            return KeysView(self)

        def __copy__(self):  # type: ignore[no-untyped-def]
            return self

    class KeysView:
        def __init__(self, owner: Recording) -> None:
            self.owner = owner

        def __contains__(self, key: object) -> bool:
            return key in self.owner

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(dict.keys(self.owner))

    assert not dist.is_initialized()
    DeepSpeedConfig(
        Recording(train_batch_size=1, train_micro_batch_size_per_gpu=1, gradient_accumulation_steps=1)
    )
    return Recording.looked_up
