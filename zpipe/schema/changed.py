"""Applies overrides to an experiment that is already composed, so that advice can be checked."""

from collections.abc import Iterable
from functools import cache

import yaml

from zpipe.resources import config_groups
from zpipe.schema.experiment import Experiment, defaults
from zpipe.schema.options import AUTO, DECIDING, sets
from zpipe.schema.precision import Precision
from zpipe.schema.stage import keys_without_effect
from zpipe.trees import Tree, flatten, set_at, unflatten

_GROUPS = ("stage", "offload", "precision", "checkpoint")
"""Config groups that advice may change. Their options set keys of the group alone."""


def changed(experiment: Experiment, overrides: Iterable[str]) -> Experiment:
    """The experiment as Hydra would compose it with these overrides added, options of groups included."""
    tree = experiment.model_dump()
    for override in overrides:
        key, _, value = override.partition("=")
        if key in _GROUPS:
            tree[key] = unflatten(_with_option(flatten(tree[key]), key, value))
        else:
            set_at(tree, key, yaml.safe_load(value))
    return Experiment.model_validate(tree)


def completed(experiment: Experiment, overrides: Iterable[str]) -> tuple[str, ...]:
    """Without overrides that are set already, and with resets of keys that a new stage or dtype ignores."""
    kept = [each for each in overrides if changed(experiment, [each]) != experiment]
    new = changed(experiment, kept)
    groups = {override.partition("=")[0] for override in kept}
    if "stage" in groups:
        kept += [f"stage.{name}=null" for name in keys_without_effect(new.stage)]
    if "precision" in groups:
        kept += _reset_other_dtypes(new.precision)
    return tuple(kept)


def _reset_other_dtypes(precision: Precision) -> list[str]:
    blocks = {"fp16": precision.fp16, "bf16": precision.bf16}
    return [
        f"precision.{dtype}.{name}=null"
        for dtype, block in blocks.items()
        if precision.dtype not in (dtype, "auto")
        for name in block.given()
    ]


def _with_option(block: Tree, group: str, name: str) -> Tree:
    """Replaces the values of the old option by those of the new one; the user's values stay."""
    base, old = _base(group), _option_of(block, group)
    users = {key: value for key, value in block.items() if value not in (base.get(key), old.get(key))}
    return {**base, **_option(group, name), **users}


def _option_of(block: Tree, group: str) -> Tree:
    """The option that the block was composed from; {} if none matches."""
    base, names = _base(group), [key.removeprefix(f"{group}.") for key in DECIDING[group]]
    for option in (_option(group, name) for name in config_groups()[group] if name != AUTO):
        whole = {**base, **option}
        if all(whole.get(name) == block.get(name) for name in names):
            return option
    return {}


@cache
def _base(group: str) -> Tree:
    return flatten(defaults()[group])


def _option(group: str, name: str) -> Tree:
    return {key.removeprefix(f"{group}."): value for key, value in sets(group, name).items()}
