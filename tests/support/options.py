"""Composes experiments from options and keys without Hydra, fast enough for hundreds of them."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from zpipe.resources import CONF
from zpipe.schema.experiment import Experiment, defaults
from zpipe.trees import set_at

FIXED = {"batch": "default", "data": "python_stdlib", "launcher": "torchrun", "checkpoint": "none"}
FIXED |= {"tracking": "none", "model": "tiny"}
"""Options of the groups that do not concern DeepSpeed."""


@cache
def option(group: str, name: str) -> dict[str, Any]:
    """What an option sets, as a part of the experiment."""
    text = (CONF / group / f"{name}.yaml").read_text()
    content = yaml.safe_load(text) or {}
    package = text.removeprefix("# @package ").split("\n")[0] if text.startswith("# @package ") else group
    return content if package == "_global_" else {package: content}


@cache
def groups_in_order() -> list[str]:
    """The groups in the order of conf/config.yaml; later ones win."""
    return [group for group, _ in _listed()]


@cache
def default_options() -> dict[str, str]:
    """The options that conf/config.yaml chooses, by their groups."""
    return {group: chosen for group, chosen in _listed() if chosen is not None}


def _listed() -> list[tuple[str, str | None]]:
    listed = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    return [pair for entry in listed if isinstance(entry, dict) for pair in entry.items()]


def experiment_of(choices: Mapping[str, str], values: Mapping[str, Any]) -> Experiment:
    """The experiment with these options, applied in the order of conf/config.yaml, and then these keys."""
    tree = copy.deepcopy(defaults())
    chosen = {**FIXED, **choices}
    for group in groups_in_order():
        if group in chosen:
            _merge(tree, option(group, chosen[group]))
    for key, value in values.items():
        set_at(tree, key, value)
    return Experiment.model_validate(tree)


def _merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(tree.get(name), dict):
            _merge(tree[name], value)
        else:
            tree[name] = value
