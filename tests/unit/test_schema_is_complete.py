"""The schema against the installed libraries: an upgrade that brings new keys fails here, and says which."""

import dataclasses

from zpipe.schema.elsewhere import DECIDED, NOT_OFFERED, OWNED
from zpipe.schema.experiment import defaults
from zpipe.schema.offload import Aio, OffloadOptimizer, OffloadParam
from zpipe.schema.precision import Bf16, Fp16
from zpipe.schema.stage import STAGE3_ONLY, STAGES_1_AND_2_ONLY, Stage
from zpipe.schema.train import Train

DEPRECATED = {
    "cpu_offload",
    "cpu_offload_param",
    "cpu_offload_use_pin_memory",
    "stage3_gather_fp16_weights_on_model_save",
}
NOT_YET = {"zenflow"}
OTHER_BLOCKS = {"offload_param", "offload_optimizer", "leaf_module"}


def names(model: type) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_every_key_of_zero_optimization_is_known() -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    ours = set(Stage.model_fields) - {"leaf_module"}
    assert names(DeepSpeedZeroConfig) - DEPRECATED - NOT_YET - OTHER_BLOCKS == ours


def test_every_key_of_the_offload_blocks_is_known() -> None:
    from deepspeed.runtime.zero.offload_config import (
        DeepSpeedZeroOffloadOptimizerConfig,
        DeepSpeedZeroOffloadParamConfig,
    )

    assert names(DeepSpeedZeroOffloadOptimizerConfig) - {"nvme_path"} == set(OffloadOptimizer.model_fields)
    assert names(DeepSpeedZeroOffloadParamConfig) - {"nvme_path"} == set(OffloadParam.model_fields)


def test_every_aio_key_is_known() -> None:
    from deepspeed.runtime.swap_tensor.aio_config import AIO_DEFAULT_DICT

    assert set(AIO_DEFAULT_DICT) == set(Aio.model_fields)


def test_every_key_of_fp16_and_bf16_is_known() -> None:
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config

    assert names(DeepSpeedFP16Config) - {"enabled"} == set(Fp16.model_fields)
    assert names(DeepSpeedBF16Config) - {"enabled"} == set(Bf16.model_fields)


def test_every_training_argument_is_offered_or_explained() -> None:
    from transformers import TrainingArguments

    installed = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    explained = set(OWNED) | set(DECIDED) | NOT_OFFERED
    missing = {name for name in installed - explained - set(Train.model_fields) if not name.startswith("_")}
    assert missing == set()
    assert explained & set(Train.model_fields) == set()


def test_keys_that_act_at_some_stages_exist() -> None:
    assert set(Stage.model_fields) >= STAGE3_ONLY | STAGES_1_AND_2_ONLY


def test_defaults_are_what_the_models_say() -> None:
    from zpipe.schema.experiment import Experiment

    assert Experiment.model_validate(defaults()) == Experiment()
