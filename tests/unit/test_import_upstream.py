"""What an import says about DeepSpeed, accelerate and transformers is true of the installed packages."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.support.equivalence import run_of
from tests.support.importing import written
from tests.support.planning import plan_of
from tests.support.upstream import completed, optimizer_class, optimizer_defaults, read
from zpipe.converters import accelerate as accelerate_keys
from zpipe.converters.deepspeed_json import AUTO_FROM_ARGUMENTS, AUTO_IN_ZPIPE, DEPRECATED
from zpipe.converters.json_keys import is_ignored, json_blocks, json_keys
from zpipe.converters.own_defaults import DECAY_PEAK, NOT_COMPARED, TRAIN_KEYS, defaults_of
from zpipe.converters.spellings import AUTO_FILLED, DTYPES, WARMUP_TYPES
from zpipe.facts.implementation import UNTESTED
from zpipe.schema.optimizer import SHARED_PARAMS
from zpipe.schema.removed import KEYS as REMOVED
from zpipe.schema.scheduler import PARAMS_OF
from zpipe.trees import set_at, value_at

JSON: dict[str, Any] = {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 3}}
RUN = run_of(plan_of("model=tiny"))


FILLED = {*AUTO_FROM_ARGUMENTS, *AUTO_FILLED, "fp16.enabled", "bf16.enabled", "steps_per_print"}
FILLED |= {key for key in AUTO_IN_ZPIPE if key.endswith(("_bucket_size", "_threshold"))}


def json_with(key: str, value: Any) -> dict[str, Any]:
    tree = {name: dict(inner) if isinstance(inner, dict) else inner for name, inner in JSON.items()}
    set_at(tree, key, value)
    return tree


STRICT_OR_NOT = sorted(
    {"no_such_key"}
    | REMOVED.keys() - DEPRECATED
    | {f"{block}.{name}" for block in ("aio", "fp16", "checkpoint") for name in REMOVED}
    | {f"{block}.no_such_key" for block in json_blocks() if not block.startswith(("optimizer", "scheduler"))}
)


@pytest.mark.parametrize("key", STRICT_OR_NOT)
def test_deepspeed_ignores_an_unknown_key_or_refuses_it_as_the_import_says(key: str) -> None:
    try:
        read(json_with(key, 1))
        ignored = True
    except Exception:
        ignored = False
    assert ignored == is_ignored(key)


@pytest.mark.parametrize("key", sorted(json_keys()))
def test_auto_is_filled_in_or_refused_as_the_import_says(key: str) -> None:
    try:
        filled = value_at(completed(json_with(key, "auto"), RUN), key) != "auto"
    except ValueError:
        filled = False
    assert filled == (key in FILLED)


@pytest.mark.parametrize(("key", "value"), AUTO_FILLED.items())
def test_accelerate_fills_in_the_value_that_the_note_names(key: str, value: Any) -> None:
    assert value_at(completed(json_with(key, "auto"), RUN), key) == value


@pytest.mark.parametrize("old", DEPRECATED)
def test_old_name_means_what_it_is_converted_to(old: str) -> None:
    new, converted = DEPRECATED[old]
    value: Any = {"enabled": True} if old == "bfloat16" else True
    changed = {
        name: value for name, value in read(json_with(new, converted(value))).items() if old not in name
    }
    theirs = read(json_with(old, value))
    assert {name: theirs.get(name) for name in changed} == changed


@pytest.mark.parametrize("kind", sorted(SHARED_PARAMS.keys() - NOT_COMPARED))
@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.parametrize("torch_adam", [False, True])
def test_own_defaults_are_those_of_the_class(kind: str, offloaded: bool, torch_adam: bool) -> None:
    is_adam = kind in ("Adam", "AdamW")
    theirs = optimizer_defaults(kind, offloaded, {"torch_adam": torch_adam} if is_adam else {})
    ours = defaults_of(kind, torch_adam and is_adam)
    for name in SHARED_PARAMS[kind]:
        assert theirs[name] == (list(ours[name]) if len(TRAIN_KEYS[name]) > 1 else ours[name][0])


def test_scheduler_defaults_are_those_of_the_class() -> None:
    from deepspeed.runtime import lr_schedules

    peak = {
        kind: inspect.signature(getattr(lr_schedules, kind)).parameters["warmup_max_lr"].default
        for kind in ("WarmupLR", "WarmupDecayLR")
    }
    assert peak == {"WarmupLR": None, "WarmupDecayLR": DECAY_PEAK}
    assert {lr_schedules.WARMUP_LOG_RATE, lr_schedules.WARMUP_LINEAR_RATE} == set(WARMUP_TYPES)
    for kind in PARAMS_OF:
        assert "last_batch_iteration" in inspect.signature(getattr(lr_schedules, kind)).parameters


def test_deepspeed_uses_log_for_an_unknown_warmup_type() -> None:
    import torch
    from deepspeed.runtime.lr_schedules import WarmupLR

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert WarmupLR(optimizer, warmup_type="cosine").warmup_type == "log"


def test_names_of_dtypes_are_those_of_deepspeed() -> None:
    from deepspeed.runtime.config import DtypeEnum

    for name, others in DTYPES.items():
        assert {DtypeEnum(other).value for other in others} == {DtypeEnum(name).value}


def test_libraries_refuse_what_the_messages_say(tmp_path: Path) -> None:
    from accelerate.utils import DeepSpeedPlugin

    with pytest.raises(ValueError, match="existing deepspeed config"):
        DeepSpeedPlugin(hf_ds_config="configs/zero.json")
    with pytest.raises(ValueError, match="specify the ZeRO optimization config"):
        DeepSpeedPlugin(hf_ds_config={"train_micro_batch_size_per_gpu": 1})
    twice = written(tmp_path, '{"zero_optimization": {"stage": 1, "stage": 2}}')
    assert DeepSpeedPlugin(hf_ds_config=str(twice)).zero_stage == 2


def test_accelerate_takes_the_keys_that_the_import_knows() -> None:
    from accelerate.commands.config.config_args import ClusterConfig

    fields = {field.name for field in dataclasses.fields(ClusterConfig)}
    assert fields <= accelerate_keys.KNOWN_KEYS


def test_arguments_that_the_json_sets_as_well_have_to_agree() -> None:
    for key in ("scheduler.params.total_num_steps", "scheduler.params.warmup_max_lr"):
        config = {**JSON, "scheduler": {"type": "WarmupDecayLR", "params": {key.rpartition(".")[2]: 7}}}
        with pytest.raises(ValueError, match="mismatch TrainingArguments"):
            completed(config, RUN)


def test_offload_below_stage_3_is_as_the_notes_say() -> None:
    from deepspeed.runtime.zero import stage_1_and_2

    source = inspect.getsource(stage_1_and_2.DeepSpeedZeroOptimizer.__init__)
    assert "offload_optimizer_config.device != OffloadDeviceEnum.none" in source
    assert "offload_param" not in source


@pytest.mark.parametrize("kind", sorted(SHARED_PARAMS.keys() - NOT_COMPARED))
def test_deepspeed_allows_with_zero_only_the_optimizers_that_the_note_does_not_name(kind: str) -> None:
    import torch
    from deepspeed.runtime.zero.utils import ZERO_SUPPORTED_OPTIMIZERS

    built = {optimizer_class(kind, offloaded, {}) for offloaded in (False, True)}
    supported = bool(built & {*ZERO_SUPPORTED_OPTIMIZERS, torch.optim.AdamW})
    assert supported != (kind in UNTESTED)
