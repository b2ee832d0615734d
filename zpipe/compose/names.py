"""Known groups, options and keys, and suggestions for unknown ones."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache

from zpipe.compose.accepted import accepted_for, nearest_accepted
from zpipe.compose.option_folders import known_options
from zpipe.compose.translate import option_problem, translated_key
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

_FEW_PLACES = 3
"""A name that is a key in more groups than this is too common to guess which one is meant."""


@cache
def known_keys() -> frozenset[str]:
    """Every dotted key of the schema, including blocks."""
    return frozenset(each for key, _ in leaves(defaults()) for each in (key, *ancestors(key)))


def is_open_mapping(key: str) -> bool:
    """Whether the key is inside a mapping with free names."""
    return any(key.startswith(f"{mapping}.") for mapping in OPEN_MAPPINGS)


def check_option(group: str, option: str) -> Problem | None:
    """A problem if the group has no such option."""
    options = known_options(group)
    if option in options:
        return None
    if option == "null":
        return Problem(group, option, "a sweep cannot omit a group", ", ".join(options))
    removed = removed_optimizer(option) if group == "optimizer" else None
    if removed is not None:
        return Problem(group, option, removed.reason, ", ".join(options), removed.instead)
    return option_problem(group, option)


def check_key(key: str, value: str) -> Problem | None:
    """A problem if the schema has no such key."""
    if key in known_keys() or is_open_mapping(key):
        return None
    return (
        _removed(key, value)
        or _one_error_away(key, value)
        or translated_key(key, value, _is_nested_block(key.rpartition(".")[0]))
        or _json_name(key, value)
        or _train_argument(key, value)
        or _by_last_part(key, value)
        or _unknown(key, value)
    )


def override_for_flag(flag: str, arguments: Sequence[str]) -> str:
    """The override that a flag of another tool means: `--learning_rate 1e-4`; empty if there is none."""
    name, equals, value = flag.lstrip("-").partition("=")
    following = arguments[arguments.index(flag) + 1 :] if flag in arguments else []
    if not equals and following and not following[0].startswith("-") and "=" not in following[0]:
        value = following[0]
    key = name.replace("-", "_")
    if not value or not flag.startswith("--"):
        return ""
    if key in known_keys() or key in config_groups():
        return nearest_accepted(key, value)
    problem = check_key(key, value)
    return problem.fix if problem is not None else ""


def _is_nested_block(block: str) -> bool:
    return "." in block and block in known_keys()


def _removed(key: str, value: str) -> Problem | None:
    removed = removed_key(key)
    return Problem(key, value, removed.reason, fix=removed.instead) if removed is not None else None


def _json_name(key: str, value: str) -> Problem | None:
    """A key as DeepSpeed's JSON names it, with or without a group before it."""
    for name in (key, key.partition(".")[2]):
        if name in experiment_keys():
            right = experiment_keys()[name]
            reason = "a key of DeepSpeed's JSON, which has another name in zpipe"
            return Problem(key, value, reason, right, nearest_accepted(right, value))
    return None


def _train_argument(key: str, value: str) -> Problem | None:
    """An argument of TrainingArguments that the group `train` does not have."""
    block, _, name = key.rpartition(".")
    if block not in ("", "train"):
        return None
    if name in OWNED:
        owner = OWNED[name]
        fix = owner if "=" in owner else nearest_accepted(owner, value)
        return Problem(key, value, "another key sets this", owner, fix)
    if name in DECIDED:
        return Problem(key, value, f"cannot be set: {DECIDED[name]}")
    if name in NOT_OFFERED:
        return Problem(key, value, "zpipe does not support this argument of TrainingArguments")
    return None


def _one_error_away(key: str, value: str) -> Problem | None:
    """A known key or group with one typing error."""
    groups = config_groups()
    near = sorted(name for name in {*known_keys(), *groups} if one_edit_apart(key, name))
    if not near:
        return None
    reason = "no such key" if "." in near[0] else "no such group"
    parent = near[0].rpartition(".")[0]
    allowed = _few(_siblings(parent)) if parent else ", ".join(groups)
    fix = " or ".join(filter(None, (nearest_accepted(name, value) for name in near)))
    return Problem(key, value, reason, allowed, fix)


def _by_last_part(key: str, value: str) -> Problem | None:
    """A key that belongs to another group."""
    name = key.rpartition(".")[2]
    keys = _with_last_part([name])
    if not keys:
        return None
    fix = accepted_for(keys, value) if len(keys) <= _FEW_PLACES else ""
    return Problem(key, value, "this key is in another group", _few(keys), fix)


def _unknown(key: str, value: str) -> Problem:
    parent, _, name = key.rpartition(".")
    if not parent:
        near = [*nearest(name, config_groups()), *_with_last_part(nearest(name, _last_parts()))]
        return Problem(key, value, "no such group", ", ".join(config_groups()), accepted_for(near, value))
    siblings = _siblings(parent)
    near = [f"{parent}.{sibling}" for sibling in nearest(name, siblings)]
    mapping = next((each for each in OPEN_MAPPINGS if one_edit_apart(parent, each)), None)
    if mapping is not None and not near:
        return Problem(key, value, "no such key", f"{mapping}.NAME", f"{mapping}.{name}={value}")
    fix = accepted_for(near or nearest(key, known_keys()), value)
    return Problem(key, value, "no such key", _few(siblings) or ", ".join(config_groups()), fix)


def _last_parts() -> set[str]:
    return {known.rpartition(".")[2] for known in known_keys()}


def _with_last_part(names: Collection[str]) -> list[str]:
    return sorted(known for known in known_keys() if known.rpartition(".")[2] in names)


def _siblings(parent: str) -> list[str]:
    keys = (known.rpartition(".") for known in known_keys())
    return [name for block, _, name in keys if block == parent]


def _few(names: Iterable[str]) -> str:
    """The names as a list that fits in a message."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:12])
    return shown if len(ordered) <= 12 else f"{shown}, … ({len(ordered)} keys: zpipe --cfg job shows all)"
