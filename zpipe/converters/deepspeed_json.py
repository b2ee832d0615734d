"""A DeepSpeed JSON, read key by key.

`auto` means what it means to transformers (transformers/integrations/deepspeed.py).
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zpipe.converters.json_keys import is_ignored, json_blocks, json_keys, unique_place, unknown_key_problem
from zpipe.converters.result import Draft, brief, whole
from zpipe.converters.spellings import (
    GATHER,
    in_documented_form,
    keeps_weights_partitioned,
    shards_tensors,
)
from zpipe.problems import Problem

SWITCHES: dict[str, str] = {
    "zero_optimization.offload_optimizer": "device",
    "zero_optimization.offload_param": "device",
    **dict.fromkeys(
        (
            "fp16",
            "bf16",
            "flops_profiler",
            "comms_logger",
            "tensorboard",
            "csv_monitor",
            "wandb",
            "comet",
            "hybrid_engine",
            "torch_autocast",
            "autotuning",
            "data_efficiency",
        ),
        "enabled",
    ),
}
"""Blocks that have no effect unless this key of the block turns them on."""

NO_EFFECT: dict[str, str] = {
    "steps_per_print": "accelerate overwrites it; zpipe shows progress every train.logging_steps",
    "dataloader_drop_last": "acts in DeepSpeed's own data loader; use train.dataloader_drop_last",
    "disable_allgather": "DeepSpeed reads it and does not use it",
}
"""Keys that have no effect under the Trainer, whatever their value."""

DEPRECATED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "zero_optimization.cpu_offload": (
        "zero_optimization.offload_optimizer",
        lambda on: {"device": "cpu" if on else "none"},
    ),
    "zero_optimization.cpu_offload_param": (
        "zero_optimization.offload_param",
        lambda on: {"device": "cpu" if on else "none"},
    ),
    "zero_optimization.stage3_gather_fp16_weights_on_model_save": (
        "zero_optimization.stage3_gather_16bit_weights_on_model_save",
        lambda on: on,
    ),
    "bfloat16": ("bf16", lambda block: block),
}
"""Old names that DeepSpeed accepts if the new name is absent, with the new name and the converted value."""

AUTO_FROM_ARGUMENTS = frozenset(
    {
        "train_micro_batch_size_per_gpu",
        "train_batch_size",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "optimizer.params.lr",
        "optimizer.params.betas",
        "optimizer.params.eps",
        "optimizer.params.weight_decay",
        "scheduler.params.warmup_min_lr",
        "scheduler.params.warmup_max_lr",
        "scheduler.params.warmup_num_steps",
        "scheduler.params.total_num_steps",
    }
)
"""Keys whose `auto` transformers fills from TrainingArguments, and zpipe from `train` and `batch`."""

AUTO_IN_ZPIPE = frozenset(
    {
        "zero_optimization.reduce_bucket_size",
        "zero_optimization.stage3_prefetch_bucket_size",
        "zero_optimization.stage3_param_persistence_threshold",
        "zero_optimization.zenflow.select_strategy",
        "zero_optimization.zenflow.select_interval",
        "zero_optimization.zenflow.update_interval",
        "data_types.keep_in_fp32_modules",
    }
)
"""Keys that can be `auto` in zpipe too."""


def read_deepspeed(config: Mapping[str, Any], draft: Draft) -> None:
    """Converts or reports every key of the JSON."""
    draft.has_json = True
    if "zero_optimization" not in config:
        reason = "not given: stage 0, as in DeepSpeed itself; accelerate refuses a JSON without it"
        draft.note("zero_optimization", "", reason)
    elif isinstance(config["zero_optimization"], Mapping) and "stage" not in config["zero_optimization"]:
        draft.note("zero_optimization.stage", "", "not given: DeepSpeed uses stage 0")
    current = in_documented_form(_with_current_names(config, draft), draft)
    _block(current, "", draft)
    if shards_tensors(current):
        draft.note(GATHER, True, "with AutoTP the model would otherwise be saved without its weights")
    gather = json_keys()[GATHER]
    if keeps_weights_partitioned(current) and gather not in draft.overridden:
        draft.put("checkpoint.save_final_model", False, GATHER)
        reason = "false: the final model would be saved without its weights, so it is not saved"
        draft.note(GATHER, "", reason, f"add {gather}=true after the file names")
    note_ignored_keys(draft)


def note_ignored_keys(draft: Draft) -> None:
    """One line, however many there are: some files have the settings of a whole program."""
    if len(draft.ignored) == 1:
        ((key, value),) = draft.ignored.items()
        draft.note(key, value, "left out: no such key: DeepSpeed ignores it")
    elif draft.ignored:
        draft.note(", ".join(draft.ignored), "", "left out: no such keys: DeepSpeed ignores them")
    draft.ignored.clear()


def _with_current_names(config: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    tree = {name: dict(value) if isinstance(value, Mapping) else value for name, value in config.items()}
    for old, (new, converted) in DEPRECATED.items():
        block = tree.get("zero_optimization") if old.startswith("zero_") else tree
        name, new_name = old.rpartition(".")[2], new.rpartition(".")[2]
        if not isinstance(block, dict) or name not in block:
            continue
        value = block.pop(name)
        if new_name in block:
            reason = f"old name of {new}, which is set too: DeepSpeed refuses both together"
            draft.refuse(Problem(old, brief(value), reason), "left out")
        else:
            block[new_name] = converted(value)
            draft.note(old, value, f"old name: converted as {new}")
    return tree


def _block(block: Mapping[str, Any], prefix: str, draft: Draft) -> None:
    for name, value in block.items():
        key = f"{prefix}{name}"
        if key in json_keys():
            _value(key, value, draft)
        elif key not in json_blocks():
            _unknown_key(key, value, draft)
        elif value is None:
            draft.refuse(Problem(key, None, "transformers fails on an empty block", "a block"), "left out")
        elif not isinstance(value, Mapping):
            fix = f'"{key}": {{"stage": 1}}' if key == "zero_optimization" and value is True else ""
            draft.refuse(Problem(key, value, "a block is expected", "{…}", fix), "left out")
        elif not _is_off(key, value, draft):
            _block(value, f"{key}.", draft)


def _is_off(key: str, block: Mapping[str, Any], draft: Draft) -> bool:
    """Whether the block is switched off. If so, reports that its settings are left out."""
    switch = SWITCHES.get(key)
    if key in ("fp16", "bf16"):
        draft.pending[key] = _boolean(f"{key}.enabled", block.get("enabled", False), draft)
    if switch is None or block.get(switch) not in (None, False, "none"):
        return False
    rest = [name for name, value in block.items() if name != switch and value is not None]
    for name in rest:
        if (
            f"{key}.{name}" not in json_keys()
            and f"{key}.{name}" not in json_blocks()
            and key in json_blocks()
        ):
            _unknown_key(f"{key}.{name}", block[name], draft)
    if rest:
        state = "not given" if block.get(switch) is None else str(block[switch]).lower()
        draft.note(key, block, f"left out: the block is off ({switch}: {state})")
    return True


def _boolean(key: str, value: Any, draft: Draft) -> Any:
    """True, False or "auto". Accepts what DeepSpeed's pydantic models accept: 1, "true", "on" and so on."""
    if value == "auto":
        return value
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        draft.refuse(Problem(key, brief(value), "not a boolean", "true, false or auto"), "false")
        return False


def _value(key: str, value: Any, draft: Draft) -> None:
    if value is None:
        return  # DeepSpeed treats null like a missing key
    draft.present.add(key)
    if key in NO_EFFECT:
        draft.note(key, value, f"left out: {NO_EFFECT[key]}")
    elif key in SWITCHES and isinstance(value, Mapping) and _is_off(key, value, draft):
        return
    elif key in ("fp16.enabled", "bf16.enabled"):
        return  # resolved once all files are read
    elif value == "auto" and key in AUTO_FROM_ARGUMENTS:
        return
    elif value == "auto" and key not in AUTO_IN_ZPIPE:
        reason = "neither transformers nor accelerate fills in auto here, and accelerate refuses it"
        draft.refuse(Problem(key, value, reason, "a value, or nothing", "leave it out"), "left out")
    elif key == "optimizer.params.betas":
        _betas(key, value, draft)
    else:
        draft.put(json_keys()[key], whole(value), key)


def _betas(key: str, value: Any, draft: Draft) -> None:
    if not isinstance(value, list) or len(value) != 2:
        draft.refuse(Problem(key, brief(value), "two numbers are expected", "[0.9, 0.999]"), "left out")
        return
    draft.put("train.adam_beta1", value[0], key)
    draft.put("train.adam_beta2", value[1], key)


def _unknown_key(key: str, value: Any, draft: Draft) -> None:
    """Leaves out a key that DeepSpeed ignores; refuses another one, and converts it where it belongs."""
    place = unique_place(key)
    if is_ignored(key):
        problem = unknown_key_problem(key, value)
        if place is None and not problem.fix:
            draft.ignored[key] = value
        else:
            draft.note(key, value, f"left out: {problem.reason}", problem.fix)
        return
    draft.refuse(unknown_key_problem(key, value), f"converted as {place}" if place else "left out")
    if place is not None and place in json_keys():
        _value(place, value, draft)
    elif place is not None and isinstance(value, Mapping):
        _block(value, f"{place}.", draft)
