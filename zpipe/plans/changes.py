"""Differences between the plans of two attempts at one run: what the result depends on must stay."""

import hashlib
import json
from collections.abc import Iterator

from zpipe.plans.plan import Plan, settings_without_secrets
from zpipe.problems import Problem
from zpipe.trees import Tree, flatten

FREE = (
    "checkpoint.",
    "launcher.env.",
    "launcher.hang_timeout_s",
    "launcher.type",
    "offload.nvme_path",
    "profiler.",
    "resume.",
    "strict",
    "tracking.",
    "train.dataloader_num_workers",
    "train.dataloader_persistent_workers",
    "train.dataloader_pin_memory",
    "train.dataloader_prefetch_factor",
    "train.ddp_timeout",
    "train.eval_",
    "train.logging_first_step",
    "train.logging_steps",
    "train.prediction_loss_only",
    "train.torch_empty_cache_steps",
)
"""Beginnings of keys that the trained model does not depend on."""

LENGTHS = ("train.max_steps", "train.num_train_epochs")
"""May grow; the learning-rate schedule then ends later."""


def result_digest(plan: Plan) -> str:
    """A digest of everything that the trained model depends on."""
    values = _settings(plan)
    relevant = {key: value for key, value in values.items() if _is_relevant(key) and key not in LENGTHS}
    text = json.dumps([relevant, plan.launch.world_size, plan.engine.dtype], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def result_changes(before: Plan, after: Plan) -> Iterator[Problem]:
    """A problem for each change with which the run would not be the same experiment."""
    for key, old, new in _changed(before, after):
        if key in LENGTHS and _grows(old, new):
            continue
        reason = f"this run was started with {_shown(old)}, and its result depends on it"
        fix = f"{key}={_shown(old)}, or a new folder: leave hydra.run.dir out"
        yield Problem(key, _shown(new), reason, _shown(old), fix)
    if before.launch.world_size != after.launch.world_size:
        count = before.launch.world_size
        yield Problem(
            "launcher.nproc_per_node",
            after.launch.world_size,
            f"the checkpoints of this run hold the shards of {count} processes",
            str(count),
            f"launcher.nproc_per_node={count}",
        )


def other_changes(before: Plan, after: Plan) -> list[str]:
    """The changes that are allowed, as lines for people, with packages of another version."""
    old, new = _settings(before), _settings(after)
    lines = [
        f"{key}: {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and not key.startswith("resume.")
    ]
    versions = [
        f"{name} {version} -> {after.versions.get(name, 'not installed')}"
        for name, version in before.versions.items()
        if after.versions.get(name) != version
    ]
    return lines + versions


def is_longer(before: Plan, after: Plan) -> bool:
    """Whether the run now goes on beyond the end that it had."""
    return any(key in LENGTHS and _grows(old, new) for key, old, new in _changed(before, after))


def _changed(before: Plan, after: Plan) -> Iterator[tuple[str, object, object]]:
    old, new = _settings(before), _settings(after)
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key) and _is_relevant(key):
            yield key, old.get(key), new.get(key)


def _is_relevant(key: str) -> bool:
    """Whether the result depends on the key; of the number of processes, the one that was decided counts."""
    return not key.startswith(FREE) and key != "launcher.nproc_per_node"


def _settings(plan: Plan) -> Tree:
    """The settings by their keys, without secrets: the plan of the attempt before has none."""
    values = flatten(settings_without_secrets(plan.experiment))
    return {key: value for key, value in values.items() if value != {}}


def _grows(old: object, new: object) -> bool:
    return isinstance(old, int | float) and isinstance(new, int | float) and 0 < old < new


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
