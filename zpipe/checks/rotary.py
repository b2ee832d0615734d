"""Rotary embeddings turn pairs of elements of a head (transformers, apply_rotary_pos_emb of each model)."""

from collections.abc import Iterator, Mapping
from typing import TypeGuard

from zpipe.checks.model_keys import key_problem
from zpipe.facts.architecture import rope_types
from zpipe.facts.decoder import Config, decoder_of, is_size
from zpipe.facts.facts import Facts
from zpipe.facts.model_types import DEFAULTS, ROTATED
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment

PLAIN = DEFAULTS.keys() - {"gpt2", "gemma3_text", "phi3"}
"""Model types with one rotation for all layers, of a kind that all models share."""
_NESTED = "partial_rotary_factor"
"""The name in rope_parameters, which wins over the key of the model type."""


def rotated_share_is_a_share(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A share above 1 exceeds the head, and the worker fails on anything but a number."""
    name, share = _rotated_share(facts.model.config)
    if not _is_share(share):
        reason = "the rotated share of a head must be a number from 0 to 1"
        yield key_problem(experiment, name, share, reason, "0 to 1", "1.0")


def rotated_part_is_even(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers refuses heads of an odd size, or multiplies tensors of different sizes."""
    config, decoder = facts.model.config, decoder_of(facts.model.config)
    if decoder is None or decoder.is_generic or decoder.model_type != config.get("model_type"):
        return
    size = decoder.head_dim
    if _can_rotate(config, size):
        return
    reason = f"rotary embeddings turn pairs of elements, but {_rotated(config, size)} of the {size} in a head"
    if size % 2 == 0:
        name, share = _rotated_share(config)
        yield key_problem(experiment, name, share, reason, "1.0, or a share that is even", "1.0")
    elif is_size(config.get("head_dim")):
        best = _with_share(config, size + 1, size + 1)
        yield key_problem(experiment, "head_dim", size, reason, "an even number", best)
    elif decoder.hidden % decoder.heads == 0:
        allowed = f"a multiple of 2 x num_attention_heads={2 * decoder.heads}"
        best = hidden_size_of_even_heads(config, decoder.hidden, decoder.heads)
        yield key_problem(experiment, "hidden_size", decoder.hidden, reason, allowed, best)


def hidden_size_of_even_heads(config: Config, hidden: int, heads: int) -> str:
    """The nearest hidden size that every kind of positions works with, and what it needs beside it."""
    head = 2 * max(1, round(hidden / (2 * heads)))
    return _with_share(config, head * heads, head)


def _with_share(config: Config, value: int, head: int) -> str:
    """The value of an override; the whole head is rotated where the share of it would not be even."""
    name, _ = _rotated_share(config)
    return f"{value}" if _can_rotate(config, head) else f"{value} model.config.{name}=1.0"


def _can_rotate(config: Config, size: int) -> bool:
    """An odd part of a head is rounded up, and fits in it. Only phi splits the head before that."""
    kind, (_, share) = config.get("model_type"), _rotated_share(config)
    if kind == "gpt2" or not _is_share(share):
        return True
    rotated = _rotated(config, size)
    return rotated % 2 == 0 or rotated == 1 or (rotated < size and kind != "phi")


def _rotated(config: Config, size: int) -> int:
    _, share = _rotated_share(config)
    return int(size * share)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _rotated_share(config: Config) -> tuple[str, float]:
    """The key of the configuration that says which part of a head is rotated, and its value."""
    key, default = ROTATED.get(str(config.get("model_type")), ("", 1.0))
    for block in ("rope_parameters", "rope_scaling") if key else ():
        rope = config.get(block)
        if isinstance(rope, Mapping) and _NESTED in rope:
            return f"{block}.{_NESTED}", rope[_NESTED]
    return key, config.get(key, default)


def base_of_rotation_is_a_number(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises it to a power when it builds the model."""
    config = facts.model.config
    blocks = {"": config} | {f"{name}.": config.get(name) for name in ("rope_parameters", "rope_scaling")}
    given = {prefix: block for prefix, block in blocks.items() if _has_base(block)}
    if len(given) > 1:
        given.pop("", None)  # the block wins
    for prefix, block in given.items() if config.get("model_type") in PLAIN else ():
        value = block["rope_theta"]
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            name, reason = f"{prefix}rope_theta", "the base of the rotation must be a number above 0"
            yield key_problem(experiment, name, value, reason, "above 0", "10000.0")


def _has_base(block: object) -> TypeGuard[Config]:
    return isinstance(block, Mapping) and "rope_theta" in block


def kind_of_rotation_is_complete(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers looks the kind and its keys up when it builds the model (modeling_rope_utils.py)."""
    config, kinds = facts.model.config, rope_types()
    if config.get("model_type") not in PLAIN or not kinds:
        return
    for block in ("rope_parameters", "rope_scaling"):
        rope = config.get(block)
        if not isinstance(rope, Mapping) or any(isinstance(each, Mapping) for each in rope.values()):
            continue
        name = next((each for each in ("rope_type", "type") if each in rope), "rope_type")
        kind = rope.get(name, "default")
        if not isinstance(kind, str) or kind not in kinds:
            reason, allowed = "transformers has no such kind of rotary embeddings", ", ".join(kinds)
            yield key_problem(experiment, f"{block}.{name}", kind, reason, allowed, "default")
        elif lacking := sorted(kinds[kind] - rope.keys()):
            reason = f"needs {' and '.join(lacking)} beside it"
            yield key_problem(
                experiment, f"{block}.{name}", kind, reason, "default, or all of its keys", "default"
            )


ERRORS = (
    base_of_rotation_is_a_number,
    kind_of_rotation_is_complete,
    rotated_share_is_a_share,
    rotated_part_is_even,
)
