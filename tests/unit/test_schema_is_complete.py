"""The schema covers the installed libraries: after an upgrade, new keys fail here by name."""

import dataclasses
import inspect
import sys
from typing import Any, get_args
from unittest.mock import MagicMock

import pytest

from tests.support.deepspeed_keys import DEPRECATED, blocks, top_level_keys
from zpipe.checks.optimizer_params import NEEDS
from zpipe.schema import stage
from zpipe.schema.experiment import Experiment, defaults
from zpipe.schema.json_names import experiment_keys
from zpipe.schema.optimizer import (
    ADAM_COMMON,
    DEEPSPEED_TYPES,
    OPTIM_ARGS,
    OWN_PARAMS,
    SHARED_PARAMS,
    TORCH_TYPES,
    TRANSFORMERS_PARAMS,
    Optimizer,
)
from zpipe.schema.removed import KEYS as REMOVED
from zpipe.schema.scheduler import KWARGS_OF, PARAMS_OF
from zpipe.schema.train import Train
from zpipe.schema.training_arguments import DECIDED, NOT_OFFERED, OWNED

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
def test_block_has_the_installed_keys(block: str) -> None:
    theirs, ours = blocks()[block]
    assert theirs == ours


def test_every_block_is_checked() -> None:
    assert sorted(blocks()) == BLOCKS


def test_every_pydantic_block_of_deepspeed_is_covered() -> None:
    """All pydantic models of DeepSpeed's training configuration."""
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


def _subclasses(of: type[Any]) -> set[type[Any]]:
    return {each for child in of.__subclasses__() for each in {child, *_subclasses(child)}}


def test_every_top_level_key_is_known() -> None:
    """All keys that DeepSpeedConfig looks up."""
    known = {name.partition(".")[0] for name in experiment_keys()} | set(REMOVED)
    assert top_level_keys() - known == set()


@pytest.mark.parametrize("kind", DEEPSPEED_TYPES)
def test_deepspeed_optimizer_is_installed(kind: str) -> None:
    from deepspeed.runtime.config import DEEPSPEED_OPTIMIZERS

    assert kind.lower() in DEEPSPEED_OPTIMIZERS
    assert len(DEEPSPEED_TYPES) == len(DEEPSPEED_OPTIMIZERS)


@pytest.mark.parametrize("kind", TORCH_TYPES)
def test_torch_optimizer_accepts_its_parameters(kind: str) -> None:
    import torch

    accepted = set(inspect.signature(getattr(torch.optim, kind)).parameters)
    assert accepted >= OWN_PARAMS[kind] | SHARED_PARAMS[kind]


def test_deepspeed_optimizers_accept_their_parameters() -> None:
    import torch
    from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
    from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam
    from deepspeed.ops.lamb import FusedLamb
    from deepspeed.ops.lion import DeepSpeedCPULion, FusedLion

    classes = {
        "AdamW": {"fused": FusedAdam, "host": DeepSpeedCPUAdam, "torch": torch.optim.AdamW},
        "Adam": {"fused": FusedAdam, "host": DeepSpeedCPUAdam, "torch": torch.optim.Adam},
        "Lamb": {"fused": FusedLamb},
        "Lion": {"fused": FusedLion, "host": DeepSpeedCPULion},
        "Adagrad": {"host": DeepSpeedCPUAdagrad, "torch": torch.optim.Adagrad},
    }
    popped_by_the_engine = {"torch_adam", "adam_w_mode", "fp32_optimizer_states"}
    for kind, implementations in classes.items():
        for name in (OWN_PARAMS[kind] | SHARED_PARAMS[kind]) - popped_by_the_engine:
            for runs in set(NEEDS.get(name, implementations)) & set(implementations):
                assert name in inspect.signature(implementations[runs]).parameters, (kind, runs, name)


@pytest.mark.parametrize(
    "optim", ["adafactor", "sgd", "adagrad", "rmsprop", "adamw_torch", "adamw_torch_fused"]
)
def test_transformers_optimizer_uses_the_shared_parameters(optim: str) -> None:
    from transformers import Trainer, TrainingArguments

    _, accepted = Trainer.get_optimizer_cls_and_kwargs(TrainingArguments(optim=optim, use_cpu=True))
    shared = TRANSFORMERS_PARAMS.get(optim, ADAM_COMMON)
    assert {"betas", "eps"} & set(accepted) == {"betas", "eps"} & shared


class LookupRecorder(dict[str, str]):
    """An empty mapping that records the name of every lookup."""

    def __init__(self) -> None:
        super().__init__(any="1")
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return False

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default

    pop = get


OPTIMS = get_args(get_args(Optimizer.model_fields["optim"].annotation)[0])


@pytest.mark.parametrize("optim", OPTIMS)
def test_transformers_optimizer_reads_the_listed_arguments(
    optim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainingArguments, trainer_optimizer

    for module in ("bitsandbytes", "schedulefree", "torch_optimi"):
        monkeypatch.setattr(trainer_optimizer, f"is_{module}_available", lambda *_: True)
    for module in ("bitsandbytes", "bitsandbytes.optim", "schedulefree", "optimi"):
        monkeypatch.setitem(sys.modules, module, MagicMock())
    recorder = LookupRecorder()
    context = trainer_optimizer.OptimizerContext(
        TrainingArguments(optim=optim, use_cpu=True), None, {"lr": 1.0}, {}, recorder
    )
    trainer_optimizer._OPTIMIZER_HANDLERS[optim](context)
    assert recorder.names - {"weight_decay"} == set(OPTIM_ARGS.get(optim, {}))


def test_deepspeed_schedulers_accept_their_parameters() -> None:
    from deepspeed.runtime import lr_schedules

    assert set(PARAMS_OF) == set(lr_schedules.VALID_LR_SCHEDULES)
    for kind, params in PARAMS_OF.items():
        accepted = set(inspect.signature(getattr(lr_schedules, kind)).parameters)
        assert params == accepted - {"optimizer", "last_batch_iteration"}, kind


def test_transformers_schedulers_accept_their_kwargs() -> None:
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    functions = {kind.value: function for kind, function in TYPE_TO_SCHEDULER_FUNCTION.items()}
    given = {"optimizer", "last_epoch", "num_warmup_steps", "num_training_steps"}
    for kind, kwargs in KWARGS_OF.items():
        accepted = set(inspect.signature(functions[kind]).parameters)
        assert kwargs == accepted - given, kind


def test_every_key_that_deepspeed_removed_is_listed() -> None:
    from deepspeed.runtime.config import _REMOVED_TOP_LEVEL_CONFIG_KEYS, _REMOVED_ZERO_CONFIG_KEYS

    assert set(_REMOVED_TOP_LEVEL_CONFIG_KEYS) | set(_REMOVED_ZERO_CONFIG_KEYS) | DEPRECATED <= set(REMOVED)


def test_every_training_argument_is_offered_or_explained() -> None:
    from transformers import TrainingArguments

    installed = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    explained = set(OWNED) | set(DECIDED) | NOT_OFFERED
    missing = {name for name in installed - explained - set(Train.model_fields) if not name.startswith("_")}
    assert missing == set()
    assert explained & set(Train.model_fields) == set()


def test_stage_specific_keys_exist() -> None:
    assert set(stage.Stage.model_fields) >= stage.STAGE3_ONLY | stage.STAGES_1_AND_2_ONLY


def test_defaults_match_the_models() -> None:
    assert Experiment.model_validate(defaults()) == Experiment()
