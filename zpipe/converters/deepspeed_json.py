"""A DeepSpeed JSON, key by key. `auto` has transformers' meaning (transformers/integrations/deepspeed.py)."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zpipe.converters.result import Found, brief, whole
from zpipe.problems import Problem, nearest
from zpipe.schema.json_names import homes
from zpipe.schema.removed import KEYS as REMOVED
from zpipe.schema.removed import removed_key
from zpipe.trees import ancestors

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
"""Blocks that do nothing unless this key of theirs turns them on."""

OVERWRITTEN: dict[str, str] = {
    "steps_per_print": "accelerate overwrites it; zpipe shows progress every train.logging_steps",
    "dataloader_drop_last": "acts in DeepSpeed's own data loader; here train.dataloader_drop_last acts",
    "disable_allgather": "DeepSpeed reads it and uses it nowhere",
}
"""Keys that say nothing under the Trainer, whatever their value."""

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
"""Old names that DeepSpeed still takes, unless the new name is there too."""

AUTO_ELSEWHERE: dict[str, str] = {
    "train_micro_batch_size_per_gpu": "batch.per_device_train_batch_size",
    "train_batch_size": "the product of the others",
    "gradient_accumulation_steps": "batch.gradient_accumulation_steps",
    "gradient_clipping": "train.max_grad_norm",
    "optimizer.params.lr": "train.learning_rate",
    "optimizer.params.betas": "train.adam_beta1 and train.adam_beta2",
    "optimizer.params.eps": "train.adam_epsilon",
    "optimizer.params.weight_decay": "train.weight_decay",
    "scheduler.params.warmup_min_lr": "0",
    "scheduler.params.warmup_max_lr": "train.learning_rate",
    "scheduler.params.warmup_num_steps": "train.warmup_steps",
    "scheduler.params.total_num_steps": "the steps of the training",
}
"""Keys whose `auto` transformers fills from TrainingArguments, and zpipe from these."""

AUTO_HERE = frozenset(
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
"""Keys that are `auto` in zpipe too."""


@cache
def leaves() -> Mapping[str, str]:
    """Every key of the JSON that has a value, with its home in the Experiment."""
    return {**homes(), "fp16.enabled": "precision", "bf16.enabled": "precision"}


@cache
def blocks() -> frozenset[str]:
    """Every block of the JSON."""
    return frozenset(block for key in leaves() for block in ancestors(key))


def read_deepspeed(config: Mapping[str, Any], found: Found) -> None:
    """Puts every key of the JSON where it belongs, or says why not."""
    found.json_seen = True
    if "zero_optimization" not in config:
        found.note("zero_optimization", "", "not given: to DeepSpeed that is stage 0")
    elif isinstance(config["zero_optimization"], Mapping) and "stage" not in config["zero_optimization"]:
        found.note("zero_optimization.stage", "", "not given: to DeepSpeed that is stage 0")
    _block(_modern(config, found), "", found)


def _modern(config: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """The same under today's names."""
    tree = {name: dict(value) if isinstance(value, Mapping) else value for name, value in config.items()}
    for old, (new, converted) in DEPRECATED.items():
        owner = tree.get("zero_optimization") if old.startswith("zero_") else tree
        name, successor = old.rpartition(".")[2], new.rpartition(".")[2]
        if not isinstance(owner, dict) or name not in owner:
            continue
        value = owner.pop(name)
        if successor in owner:
            problem = Problem(
                old, brief(value), f"an old name of {new}, which is there too: DeepSpeed refuses"
            )
            found.refuse(problem, "left out")
        else:
            owner[successor] = converted(value)
            found.note(old, value, f"an old name: carried over as {new}")
    return tree


def _block(block: Mapping[str, Any], prefix: str, found: Found) -> None:
    for name, value in block.items():
        key = f"{prefix}{name}"
        if key in leaves():
            _leaf(key, value, found)
        elif key not in blocks():
            _stranger(key, value, found)
        elif value is None:
            found.refuse(Problem(key, None, "transformers fails on an empty block", "a block"), "left out")
        elif not isinstance(value, Mapping):
            found.refuse(Problem(key, value, "a block is expected", "{…}", _block_of(key, value)), "left out")
        elif not _is_off(key, value, found):
            _block(value, f"{key}.", found)


def _block_of(key: str, value: Any) -> str:
    return f'"{key}": {{"stage": 1}}' if key == "zero_optimization" and value is True else ""


def _is_off(key: str, block: Mapping[str, Any], found: Found) -> bool:
    """Whether the block does nothing; its settings are then named and left out."""
    switch = SWITCHES.get(key)
    if key in ("fp16", "bf16"):
        found.formats[key] = _truth(f"{key}.enabled", block.get("enabled", False), found)
    if switch is None or block.get(switch) not in (None, False, "none"):
        return False
    rest = [name for name, value in block.items() if name != switch and value is not None]
    for name in rest:
        if f"{key}.{name}" not in leaves() and f"{key}.{name}" not in blocks() and key in blocks():
            _stranger(f"{key}.{name}", block[name], found)
    if rest:
        found.note(key, block, f"it is off ({switch}: {_json(block.get(switch))}): its settings are left out")
    return True


def _truth(key: str, value: Any, found: Found) -> Any:
    """True, false or auto, from all that DeepSpeed's own models read as such: 1, "true", "on" …"""
    if value == "auto":
        return value
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        found.refuse(Problem(key, brief(value), "no truth value", "true, false or auto"), "false")
        return False


def _json(value: Any) -> str:
    return "not given" if value is None else str(value).lower()


def _leaf(key: str, value: Any, found: Found) -> None:
    if value is None:
        return  # null in the JSON is what DeepSpeed takes for absent keys
    found.present.add(key)
    if key in OVERWRITTEN:
        found.note(key, value, f"left out: {OVERWRITTEN[key]}")
    elif key in SWITCHES and isinstance(value, Mapping) and _is_off(key, value, found):
        return
    elif key in ("fp16.enabled", "bf16.enabled"):
        return  # settled when all files are read
    elif value == "auto" and key in AUTO_ELSEWHERE:
        return  # `train`, `batch` and the length of the training decide, here as there
    elif value == "auto" and key not in AUTO_HERE:
        reason = "transformers fills in no auto here, and refuses it"
        found.refuse(Problem(key, value, reason, "a value, or nothing", "leave it out"), "left out")
    elif key == "optimizer.params.betas":
        _betas(key, value, found)
    else:
        found.put(leaves()[key], whole(value), key)


def _betas(key: str, value: Any, found: Found) -> None:
    if not isinstance(value, list) or len(value) != 2:
        found.refuse(Problem(key, brief(value), "two numbers are expected", "[0.9, 0.999]"), "left out")
        return
    found.put("train.adam_beta1", value[0], key)
    found.put("train.adam_beta2", value[1], key)


def _stranger(key: str, value: Any, found: Found) -> None:
    """A key that DeepSpeed does not have at this place."""
    name = key.rpartition(".")[2]
    home = _right_place(key)
    if key == "optimizer.params.max_grad_norm":
        reason = "DeepSpeed's optimizers refuse it: clipping is gradient_clipping at the top level"
        found.refuse(
            Problem(key, value, reason, "gradient_clipping", f"train.max_grad_norm={value}"), "left out"
        )
    elif name in REMOVED:
        gone = removed_key(name)
        assert gone is not None
        found.refuse(Problem(key, brief(value), gone.reason, fix=gone.instead), "left out")
    elif home is not None:
        _misplaced(key, home, value, found)
    else:
        near = nearest(key, leaves()) or nearest(name, blocks())
        reason = f"no such key: {_what_it_does(key)}"
        found.refuse(Problem(key, brief(value), reason, fix=" or ".join(near)), "left out")


def _misplaced(key: str, home: str, value: Any, found: Found) -> None:
    block = home.rpartition(".")[0] or "the top level"
    reason = f"it is in the wrong block: {_what_it_does(key)}"
    problem = Problem(key, brief(value), reason, home, f"move it to {block}")
    found.refuse(problem, f"carried over as {home}")
    if home in leaves():
        _leaf(home, value, found)
    elif isinstance(value, Mapping):
        _block(value, f"{home}.", found)


def _right_place(key: str) -> str | None:
    """The only key or block of the JSON that ends with the same name."""
    name = key.rpartition(".")[2]
    places = [known for known in (*leaves(), *blocks()) if known.rpartition(".")[2] == name]
    top = [place for place in places if "." not in place]
    return (top or places)[0] if top or len(places) == 1 else None


LAX = frozenset(
    {
        "aio",
        "activation_checkpointing",
        "flops_profiler",
        "checkpoint",
        "data_types",
        "torch_autocast",
        "optimizer",
        "scheduler",
    }
)
"""Blocks in which DeepSpeed itself overlooks a key that it does not know."""


def _what_it_does(key: str) -> str:
    block, dot, _ = key.rpartition(".")
    if block in ("optimizer.params", "scheduler.params"):
        return "DeepSpeed refuses it at engine start"
    overlooks = not dot or key.partition(".")[0] in LAX
    return "DeepSpeed ignores it in silence" if overlooks else "DeepSpeed refuses it"
