"""Known groups, options and keys, and suggestions for unknown ones."""

from collections.abc import Iterable
from functools import cache

from zpipe.compose.option_folders import own_options
from zpipe.problems import Problem, nearest, one_edit_apart
from zpipe.resources import config_groups
from zpipe.schema.experiment import defaults
from zpipe.schema.json_names import experiment_keys
from zpipe.schema.removed import removed_key, removed_optimizer
from zpipe.schema.training_arguments import DECIDED, NOT_OFFERED, OWNED
from zpipe.trees import ancestors, leaves

OPEN_MAPPINGS = frozenset(
    {
        "model.config",
        "scheduler.lr_scheduler_kwargs",
        "deepspeed.tensor_parallel.partition_config",
        "deepspeed.tensor_parallel.tp",
        "deepspeed.weight_quantization.quantized_initialization",
        "deepspeed.weight_quantization.post_init_quant",
        "deepspeed.autotuning",
        "deepspeed.data_efficiency",
        "deepspeed.pipeline",
        "deepspeed.expert_parallel",
        "deepspeed.datastates_ckpt",
        "train.gradient_checkpointing_kwargs",
        "train.liger_kernel_config",
        "launcher.env",
        "tracking.tags",
    }
)
"""Keys below which any name is allowed."""


@cache
def known_keys() -> frozenset[str]:
    """Every dotted key of the schema, including blocks."""
    return frozenset(each for key, _ in leaves(defaults()) for each in (key, *ancestors(key)))


def is_open_mapping(key: str) -> bool:
    """Whether the key is inside a mapping with free names."""
    return any(key.startswith(f"{mapping}.") for mapping in OPEN_MAPPINGS)


def check_option(group: str, option: str) -> Problem | None:
    """A problem if the group has no such option."""
    options = [*config_groups()[group], *own_options(group)]
    if option in options:
        return None
    if option == "null":
        return Problem(group, option, "a sweep cannot omit a group", ", ".join(options))
    removed = removed_optimizer(option) if group == "optimizer" else None
    if removed is not None:
        return Problem(group, option, removed.reason, ", ".join(options), removed.instead)
    near = nearest(option, options)
    fix = " or ".join(f"{group}={name}" for name in near)
    return Problem(group, option, "no such option", ", ".join(options), fix)


def check_key(key: str, value: str) -> Problem | None:
    """A problem if the schema has no such key."""
    if key in known_keys() or is_open_mapping(key):
        return None
    return (
        _removed(key, value)
        or _json_name(key, value)
        or _train_argument(key, value)
        or _one_error_away(key, value)
        or (_unknown(key, value) if "." in key else _unknown_top_level(key, value))
    )


def _removed(key: str, value: str) -> Problem | None:
    removed = removed_key(key)
    return Problem(key, value, removed.reason, fix=removed.instead) if removed is not None else None


def _json_name(key: str, value: str) -> Problem | None:
    """A key as DeepSpeed's JSON names it, with or without a group before it."""
    for name in (key, key.partition(".")[2]):
        if name in experiment_keys():
            right = experiment_keys()[name]
            reason = "a key of DeepSpeed's JSON, which has another name in zpipe"
            return Problem(key, value, reason, right, f"{right}={value}")
    return None


def _one_error_away(key: str, value: str) -> Problem | None:
    """A known key or group with one typing error."""
    groups = config_groups()
    near = sorted(name for name in {*known_keys(), *groups} if one_edit_apart(key, name))
    if not near:
        return None
    reason = "no such key" if "." in near[0] else "no such group"
    parent = near[0].rpartition(".")[0]
    siblings = [
        known.removeprefix(f"{parent}.") for known in known_keys() if known.rpartition(".")[0] == parent
    ]
    allowed = _few(siblings) if parent else ", ".join(groups)
    return Problem(key, value, reason, allowed, " or ".join(f"{name}={value}" for name in near))


def _unknown_top_level(name: str, value: str) -> Problem:
    groups = config_groups()
    near = nearest(name, groups)
    if near:
        return Problem(
            name, value, "no such group", ", ".join(groups), " or ".join(f"{group}={value}" for group in near)
        )
    return _by_last_part(name, value) or Problem(name, value, "no such group", ", ".join(groups))


def _unknown(key: str, value: str) -> Problem:
    parent, _, name = key.rpartition(".")
    siblings = {known.rpartition(".")[2] for known in known_keys() if known.rpartition(".")[0] == parent}
    near = nearest(name, siblings)
    if near:
        fix = " or ".join(f"{parent}.{sibling}={value}" for sibling in near)
        return Problem(key, value, "no such key", _few(siblings), fix)
    mappings = nearest(parent, OPEN_MAPPINGS, most=1)
    if mappings:
        return Problem(key, value, "no such key", f"{mappings[0]}.NAME", f"{mappings[0]}.{name}={value}")
    others = nearest(key, known_keys())
    allowed = _few(siblings) or ", ".join(config_groups())
    return _by_last_part(name, value) or Problem(
        key, value, "no such key", allowed, " or ".join(f"{other}={value}" for other in others)
    )


def _few(names: Iterable[str]) -> str:
    """The names as a list that fits in a message."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:12])
    return shown if len(ordered) <= 12 else f"{shown}, … ({len(ordered)} keys: zpipe --cfg job shows all)"


def _by_last_part(name: str, value: str) -> Problem | None:
    """A key that belongs to another group."""
    keys = sorted(key for key in known_keys() if key.rpartition(".")[2] == name)
    if not keys:
        return None
    fix = " or ".join(f"{key}={value}" for key in keys)
    return Problem(name, value, "this key is in another group", ", ".join(keys), fix)


def _train_argument(key: str, value: str) -> Problem | None:
    """An argument of TrainingArguments that the group `train` does not have."""
    block, _, name = key.partition(".")
    if block != "train":
        return None
    if name in OWNED:
        owner = OWNED[name]
        fix = owner if "=" in owner else f"{owner}={value}"
        return Problem(key, value, "another key sets this", owner, fix)
    if name in DECIDED:
        return Problem(key, value, f"cannot be set: {DECIDED[name]}")
    if name in NOT_OFFERED:
        return Problem(key, value, "zpipe does not support this argument of TrainingArguments")
    return None
