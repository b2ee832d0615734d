"""Random combinations of options and keys: DeepSpeed accepts each compiled plan and ignores no key."""

import copy
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.deepspeed_keys import blocks, top_level_keys
from tests.support.options import experiment_of
from tests.support.planning import CPU, H200, V100, gpus
from zpipe.compile.compiler import compile_plan
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.plans.provenance import Origin, Provenance
from zpipe.problems import Problem, Refusal
from zpipe.resources import config_groups
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment
from zpipe.schema.json_names import json_key
from zpipe.schema.optimizer import TORCH_TYPES
from zpipe.trees import leaves

GROUPS: tuple[str, ...] = ("stage", "offload", "precision", "optimizer", "scheduler", "zeropp")
GROUPS += ("activation_checkpointing", "compile", "profiler")
MACHINES = {
    "cpu": CPU,
    "gpu": gpus(H200),
    "old": gpus(V100),
    "two": gpus(H200, H200),
    "eight": gpus(*[H200] * 8),
}
LEFT_OUT = {"offload.aio.use_gds", "stage.stage", "optimizer.type", "scheduler.type"}
"""use_gds: DeepSpeedConfig accepts it only on a machine with a GPU; the other keys are set by options."""

ELSEWHERE = {
    *("train.learning_rate", "train.adam_beta1", "train.adam_epsilon", "train.weight_decay"),
    *("offload.nvme_path", "checkpoint.node_local"),
}
"""Keys that are also passed through TrainingArguments, or that have no effect when false."""

INTEGERS = [0, 1, 2, 8, 1000, 500_000_000]
FLOATS = [0.0, 0.25, 0.9, 1.0, 100.0]
OPTIONS = config_groups()


def values_of(group: type[Group], name: str) -> list[Any]:
    """Some values of a key, by its type, without those that validation refuses."""
    node = _schema(group)["properties"][name]
    candidates = [value for option in node.get("anyOf", [node]) for value in _candidates(option)]
    return [value for value in candidates if _is_valid(group, name, value)]


@cache
def _schema(group: type[Group]) -> dict[str, Any]:
    return group.model_json_schema()


def _candidates(node: dict[str, Any]) -> list[Any]:
    if "enum" in node or "const" in node:
        return list(node.get("enum", [node.get("const")]))
    if node.get("type") == "array" and node.get("items", {}).get("type") in ("string", "number"):
        return [[value] for value in _candidates(node["items"])]
    kinds: dict[str, list[Any]] = {
        "boolean": [True, False],
        "integer": INTEGERS,
        "number": FLOATS,
        "string": ["text"],
    }
    return kinds.get(node.get("type", ""), [])


def _is_valid(group: type[Group], name: str, value: Any) -> bool:
    try:
        group(**{name: value})
    except ValidationError:
        return False
    return True


def keys_with_values(group: type[Group] = Experiment, prefix: str = "") -> dict[str, list[Any]]:
    """Every key that DeepSpeed reads, with some values."""
    found: dict[str, list[Any]] = {}
    for name, field in group.model_fields.items():
        key, inner = f"{prefix}{name}", field.annotation
        if isinstance(inner, type) and issubclass(inner, Group):
            found |= keys_with_values(inner, f"{key}.")
        elif json_key(key) is not None and key not in LEFT_OUT:
            found[key] = values_of(group, name)
    return {key: values for key, values in found.items() if values}


KEYS = keys_with_values()


@st.composite
def combinations(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, Any], Hardware]:
    choices = {group: draw(st.sampled_from(OPTIONS[group])) for group in GROUPS}
    chosen = draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=5, unique=True))
    values = {key: draw(st.sampled_from(KEYS[key])) for key in chosen}
    return choices, values, MACHINES[draw(st.sampled_from(sorted(MACHINES)))]


def compiled(choices: dict[str, str], values: dict[str, Any], hardware: Hardware, seed: int) -> Plan:
    """Applies randomly chosen fixes of randomly chosen problems until nothing is refused."""
    chance, refused = random.Random(seed), list[Problem]()
    while len(refused) < 60:
        sources = {key: [Origin(source=key, value=value)] for key, value in values.items()}
        provenance = Provenance(experiment=sources)
        try:
            return compile_plan(experiment_of(choices, values), Path("/runs/one"), [], hardware, provenance)
        except Refusal as refusal:
            refused.append(chance.choice(refusal.problems))
            _apply(chance.choice(refused[-1].fix.split(", or ")), choices, values)
    raise AssertionError("the fixes never lead to a valid experiment:\n" + "\n".join(map(str, refused[-6:])))


def _apply(fix: str, choices: dict[str, str], values: dict[str, Any]) -> None:
    for override in fix.split():
        key, equals, value = override.partition("=")
        assert equals, fix
        if key in OPTIONS:
            choices[key] = value
        else:
            values[key] = yaml.safe_load(value)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(combination=combinations(), seed=st.integers(0, 99))
def test_deepspeed_accepts_every_plan_and_ignores_no_key(combination: Any, seed: int) -> None:
    choices, values, hardware = copy.deepcopy(combination)
    plan = compiled(choices, values, hardware, seed)
    load_into_deepspeed(plan)
    assert dropped(values, plan) == []
    assert ignored(plan.ds_config) == []


def load_into_deepspeed(plan: Plan) -> None:
    """Builds the DeepSpeedConfig, PyTorch's optimizer and DeepSpeed's scheduler of one rank."""
    import torch
    from deepspeed.runtime import lr_schedules
    from deepspeed.runtime.config import DeepSpeedConfig

    config = copy.deepcopy(plan.ds_config)
    config["train_batch_size"] //= plan.launch.world_size
    DeepSpeedConfig(config)
    weights = [torch.nn.Parameter(torch.zeros(2, 2))]
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(weights)
    if plan.experiment.optimizer.type in TORCH_TYPES:
        optimizer = getattr(torch.optim, config["optimizer"]["type"])(
            weights, **config["optimizer"]["params"]
        )
    if "scheduler" in config:
        getattr(lr_schedules, config["scheduler"]["type"])(optimizer, **config["scheduler"]["params"])


def dropped(values: dict[str, Any], plan: Plan) -> list[str]:
    """Keys of DeepSpeed that were set and not refused, but are not in the JSON."""
    written = dict(leaves(plan.ds_config))
    given = [key for key, value in values.items() if json_key(key) and value not in (None, "none", "auto")]
    return [key for key in given if json_key(key) not in written and key not in ELSEWHERE]


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    """Turns off DeepSpeed's log of every configuration that it reads."""
    import logging

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


@cache
def read_by_deepspeed() -> tuple[set[str], dict[str, set[str]]]:
    """The top-level keys, and the keys of each block."""
    return top_level_keys(), {name: theirs for name, (theirs, _) in blocks().items()}


def ignored(config: dict[str, Any]) -> list[str]:
    """Keys that DeepSpeed would silently ignore: unknown ones at the top level and in its blocks."""
    top, known = read_by_deepspeed()
    places = {**config, **_inner(config)}
    also = {"offload_param", "offload_optimizer", "nvme_path", "enabled"}
    return [key for key in config if key not in top] + [
        f"{name}.{key}"
        for name, keys in known.items()
        for key in places.get(name, {})
        if key not in keys | also
    ]


def _inner(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    zero = config["zero_optimization"]
    found = {
        name: zero.get(name, {}) for name in ("offload_optimizer", "offload_param", "leaf_module", "zenflow")
    }
    found["timers.throughput"] = config.get("timers", {}).get("throughput", {})
    found["checkpoint.writer"] = config.get("checkpoint", {}).get("writer", {})
    return found
