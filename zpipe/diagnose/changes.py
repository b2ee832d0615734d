"""Applies overrides to an experiment that is already composed, so that advice can be checked."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import yaml

from zpipe.resources import CONF
from zpipe.schema.experiment import Experiment, defaults

Tree = dict[str, Any]

IDENTITY = {
    "stage": ("stage",),
    "offload": ("offload_optimizer.device", "offload_param.device"),
    "precision": ("dtype",),
    "checkpoint": ("save_strategy",),
}
"""Config groups that advice may change, each with the keys that distinguish its options."""


def changed(experiment: Experiment, overrides: Iterable[str]) -> Experiment:
    """The experiment as Hydra would compose it with these overrides added, options of groups included."""
    tree = experiment.model_dump()
    for override in overrides:
        key, _, value = override.partition("=")
        if key in IDENTITY:
            tree[key] = _unflat(_with_option(_flat(tree[key]), key, value))
        else:
            _set(tree, key, yaml.safe_load(value))
    return Experiment.model_validate(tree)


def _with_option(block: Tree, group: str, name: str) -> Tree:
    """Replaces the values of the old option by those of the new one; the user's values stay."""
    base, old = _flat(defaults()[group]), _option_of(block, group)
    users = {key: value for key, value in block.items() if value not in (base.get(key), old.get(key))}
    return {**base, **_option(group, name), **users}


def _option_of(block: Tree, group: str) -> Tree:
    """The option that the block was composed from; {} if none matches."""
    base = _flat(defaults()[group])
    for file in sorted((CONF / group).glob("*.yaml")):
        option = _option(group, file.stem)
        whole = {**base, **option}
        if all(whole.get(key) == block.get(key) for key in IDENTITY[group]):
            return option
    return {}


@cache
def _option(group: str, name: str) -> Tree:
    return _flat(yaml.safe_load((CONF / group / f"{name}.yaml").read_text()) or {})


def _flat(tree: Tree, prefix: str = "") -> Tree:
    """The tree with dotted keys; an empty mapping counts as a value."""
    leaves: Tree = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _unflat(leaves: Tree) -> Tree:
    tree: Tree = {}
    for key, value in leaves.items():
        _set(tree, key, value)
    return tree


def _set(tree: Tree, key: str, value: Any) -> None:
    *groups, name = key.split(".")
    for group in groups:
        tree = tree.setdefault(group, {})
    tree[name] = value
