"""The schema against the installed libraries: an upgrade that brings new keys fails here, and says which."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

from zpipe.schema import deepspeed, engine, offload, precision, stage, surroundings, zenflow
from zpipe.schema.base import Group
from zpipe.schema.elsewhere import DECIDED, NOT_OFFERED, OWNED
from zpipe.schema.experiment import Experiment, defaults
from zpipe.schema.json_names import homes
from zpipe.schema.optimizer import DEEPSPEED_TYPES, OWN_PARAMS, SHARED_PARAMS, TORCH_TYPES
from zpipe.schema.removed import KEYS as REMOVED
from zpipe.schema.scheduler import KWARGS_OF, PARAMS_OF
from zpipe.schema.train import Train

DEPRECATED = {
    "cpu_offload",
    "cpu_offload_param",
    "cpu_offload_use_pin_memory",
    "stage3_gather_fp16_weights_on_model_save",
}


def names(model: type) -> set[str]:
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
            fields(surroundings.CheckpointWriter),
        ),
    }


def constants(file: str, prefix: str) -> set[str]:
    """Values of the constants that name keys: those with the prefix that are neither defaults nor formats."""
    import deepspeed as package

    tree = ast.parse((Path(package.__file__).parent / file).read_text())
    values = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            (target,) = node.targets
            name = getattr(target, "id", "")
            if name.startswith(prefix) and not name.endswith(("_DEFAULT", "_FORMAT")):
                values.add(node.value.value)
    return values


BLOCKS = sorted(
    [
        "zero_optimization",
        "offload_optimizer",
        "offload_param",
        "leaf_module",
        "zenflow",
        "aio",
        "fp16",
        "bf16",
        "compile",
        "comms_logger",
        "timers.throughput",
        "tensor_parallel",
        "tensorboard",
        "csv_monitor",
        "wandb",
        "comet",
        "hybrid_engine",
        "weight_quantization",
        "activation_checkpointing",
        "flops_profiler",
        "data_types",
        "torch_autocast",
        "checkpoint.writer",
    ]
)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_key_of_the_block_is_known(block: str) -> None:
    theirs, ours = blocks()[block]
    assert theirs == ours


def test_no_block_is_forgotten() -> None:
    assert sorted(blocks()) == BLOCKS


def test_every_strict_block_of_deepspeed_is_among_them() -> None:
    """Every pydantic model that DeepSpeed's training configuration is made of."""
    from deepspeed.runtime.config_utils import DeepSpeedConfigModel

    blocks()
    inference = {"DeepSpeedInferenceConfig", "QuantizationConfig", "ActivationQuantConfig", "QKVQuantConfig"}
    inference |= {"InferenceCheckpointConfig", "DeepSpeedMoEConfig", "DeepSpeedTPConfig", "BaseQuantConfig"}
    parents = {"DeepSpeedMonitorConfig", "TPConfig"}
    covered = {
        "DeepSpeedZeroConfig",
        "DeepSpeedZeroOffloadOptimizerConfig",
        "DeepSpeedZeroOffloadParamConfig",
        "DeepSpeedZeroLeafModuleConfig",
        "ZenFlowConfig",
        "DeepSpeedFP16Config",
        "DeepSpeedBF16Config",
        "CompileConfig",
        "CommsLoggerConfig",
        "DeepSpeedThroughputTimerConfig",
        "TPTrainingConfig",
        "TensorBoardConfig",
        "CSVConfig",
        "WandbConfig",
        "CometConfig",
        "HybridEngineConfig",
        "WeightQuantConfig",
    }
    found = {each.__name__ for each in _subclasses(DeepSpeedConfigModel) if ".v2." not in each.__module__}
    assert found - inference - parents == covered


def _subclasses(of: type) -> set[type]:
    return {each for child in of.__subclasses__() for each in {child, *_subclasses(child)}}


def test_every_top_level_key_is_known() -> None:
    """Whatever DeepSpeedConfig reads: the keys that its constants name, and the blocks that it looks up."""
    known = {name.partition(".")[0] for name in homes()} | set(REMOVED)
    assert top_level_keys() - known == set()


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


@pytest.mark.parametrize("kind", DEEPSPEED_TYPES)
def test_optimizers_of_deepspeed_are_the_installed_ones(kind: str) -> None:
    from deepspeed.runtime.config import DEEPSPEED_OPTIMIZERS

    assert kind.lower() in DEEPSPEED_OPTIMIZERS
    assert len(DEEPSPEED_TYPES) == len(DEEPSPEED_OPTIMIZERS)


@pytest.mark.parametrize("kind", TORCH_TYPES)
def test_parameters_of_torchs_optimizers_are_the_installed_ones(kind: str) -> None:
    import torch

    taken = set(inspect.signature(getattr(torch.optim, kind)).parameters)
    assert taken >= OWN_PARAMS[kind] | SHARED_PARAMS[kind]


def test_parameters_of_deepspeeds_optimizers_are_the_installed_ones() -> None:
    import torch
    from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
    from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam
    from deepspeed.ops.lamb import FusedLamb
    from deepspeed.ops.lion import DeepSpeedCPULion, FusedLion

    classes = {
        "AdamW": (FusedAdam, DeepSpeedCPUAdam, torch.optim.AdamW),
        "Adam": (FusedAdam, DeepSpeedCPUAdam, torch.optim.Adam),
        "Lamb": (FusedLamb,),
        "Lion": (FusedLion, DeepSpeedCPULion),
        "Adagrad": (DeepSpeedCPUAdagrad, torch.optim.Adagrad),
    }
    popped_by_the_engine = {"torch_adam", "adam_w_mode", "fp32_optimizer_states"}
    for kind, implementations in classes.items():
        taken = {name for each in implementations for name in inspect.signature(each).parameters}
        assert taken | popped_by_the_engine >= OWN_PARAMS[kind] | SHARED_PARAMS[kind], kind


def test_parameters_of_deepspeeds_schedulers_are_the_installed_ones() -> None:
    from deepspeed.runtime import lr_schedules

    assert set(PARAMS_OF) == set(lr_schedules.VALID_LR_SCHEDULES)
    for kind, params in PARAMS_OF.items():
        taken = set(inspect.signature(getattr(lr_schedules, kind)).parameters)
        assert params == taken - {"optimizer", "last_batch_iteration"}, kind


def test_kwargs_of_transformers_schedulers_are_the_installed_ones() -> None:
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    functions = {kind.value: function for kind, function in TYPE_TO_SCHEDULER_FUNCTION.items()}
    given = {"optimizer", "last_epoch", "num_warmup_steps", "num_training_steps"}
    for kind, kwargs in KWARGS_OF.items():
        taken = set(inspect.signature(functions[kind]).parameters)
        assert kwargs == taken - given, kind


def test_removed_keys_are_what_deepspeed_says() -> None:
    from deepspeed.runtime.config import _REMOVED_TOP_LEVEL_CONFIG_KEYS, _REMOVED_ZERO_CONFIG_KEYS

    assert set(_REMOVED_TOP_LEVEL_CONFIG_KEYS) | set(_REMOVED_ZERO_CONFIG_KEYS) | DEPRECATED <= set(REMOVED)


def test_every_training_argument_is_offered_or_explained() -> None:
    from transformers import TrainingArguments

    installed = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    explained = set(OWNED) | set(DECIDED) | NOT_OFFERED
    missing = {name for name in installed - explained - set(Train.model_fields) if not name.startswith("_")}
    assert missing == set()
    assert explained & set(Train.model_fields) == set()


def test_keys_that_act_at_some_stages_exist() -> None:
    assert set(stage.Stage.model_fields) >= stage.STAGE3_ONLY | stage.STAGES_1_AND_2_ONLY


def test_defaults_are_what_the_models_say() -> None:
    assert Experiment.model_validate(defaults()) == Experiment()
