"""The keys and blocks of the DeepSpeed JSON, and the problem with a key that is not one of them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from zpipe.converters.result import brief
from zpipe.problems import Problem, nearest, one_edit_apart
from zpipe.schema.json_names import experiment_keys
from zpipe.schema.removed import KEYS as REMOVED
from zpipe.schema.removed import REFUSED_AT_THE_TOP, removed_key
from zpipe.trees import ancestors

MAX_GRAD_NORM = "optimizer.params.max_grad_norm"

LENIENT_BLOCKS = frozenset(
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
"""Blocks in which DeepSpeed ignores unknown keys."""


@cache
def json_keys() -> Mapping[str, str]:
    """Every key of the JSON that has a value, with the key of the Experiment that sets it."""
    return {**experiment_keys(), "fp16.enabled": "precision", "bf16.enabled": "precision"}


@cache
def json_blocks() -> frozenset[str]:
    """Every block of the JSON."""
    return frozenset(block for key in json_keys() for block in ancestors(key))


def unique_place(key: str) -> str | None:
    """The key or block to which an unknown key belongs: the only one with this last part, or one at the top
    level. None if there is no such place, or if DeepSpeed has removed the key."""
    name = key.rpartition(".")[2]
    if key == MAX_GRAD_NORM or name in REMOVED:
        return None
    places = [known for known in (*json_keys(), *json_blocks()) if known.rpartition(".")[2] == name]
    top = [place for place in places if "." not in place]
    return (top or places)[0] if top or len(places) == 1 else None


def unknown_key_problem(key: str, value: Any) -> Problem:
    """Why DeepSpeed does not accept a key at this place."""
    name, place = key.rpartition(".")[2], unique_place(key)
    if key == MAX_GRAD_NORM:
        reason = "DeepSpeed's optimizers refuse it: clipping is gradient_clipping at the top level"
        return Problem(key, value, reason, "gradient_clipping", f"train.max_grad_norm={value}")
    if name in REMOVED:
        removed = removed_key(name)
        assert removed is not None
        return Problem(key, brief(value), removed.reason, fix=removed.instead)
    if place is not None:
        block = place.rpartition(".")[0] or "the top level"
        return Problem(key, brief(value), f"in the wrong block: {_effect(key)}", place, f"move it to {block}")
    return Problem(key, brief(value), f"no such key: {_effect(key)}", fix=" or ".join(_similar(key)))


def _similar(key: str) -> list[str]:
    """Names that may have been meant: in the same block, or for an ignored key those one error away."""
    block, dot, name = key.rpartition(".")
    known = {*json_keys(), *json_blocks()}
    siblings = [each.rpartition(".")[2] for each in known if each.rpartition(".")[0] == block]
    near = [
        each for each in nearest(name, sorted(siblings)) if not is_ignored(key) or one_edit_apart(name, each)
    ]
    return [f"{block}{dot}{each}" for each in near]


def is_ignored(key: str) -> bool:
    """Whether DeepSpeed does nothing about an unknown key: at the top level and in lenient blocks."""
    block, dot, name = key.rpartition(".")
    if block in ("optimizer.params", "scheduler.params"):
        return False
    if not dot:
        return name not in REFUSED_AT_THE_TOP
    return block == "timers" or key.partition(".")[0] in LENIENT_BLOCKS


def _effect(key: str) -> str:
    """What DeepSpeed does about an unknown key."""
    if key.rpartition(".")[0] in ("optimizer.params", "scheduler.params"):
        return "DeepSpeed refuses it at engine start"
    return "DeepSpeed ignores it" if is_ignored(key) else "DeepSpeed refuses it"
