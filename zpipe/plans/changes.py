"""Differences between the plans of two attempts at one run: what the result depends on must stay."""

import hashlib
import json
from collections.abc import Iterator
from typing import TypeGuard

from zpipe.hydra_text import plain_text
from zpipe.plans.effective import in_effect
from zpipe.plans.given import Given
from zpipe.plans.plan import Plan, settings_without_secrets
from zpipe.problems import Problem
from zpipe.schema.kernels import LAYER_KERNELS
from zpipe.trees import Tree, flatten

FREE = (
    "checkpoint.",
    "hardware.",
    "launcher.array_parallelism",
    "launcher.env.",
    "launcher.exclude",
    "launcher.hang_timeout_s",
    "launcher.hostfile",
    "launcher.include",
    "launcher.kubeflow.",
    "launcher.master_addr",
    "launcher.master_port",
    "launcher.max_restarts",
    "launcher.multinode_launcher",
    "launcher.node_rank",
    "launcher.node_timeout_s",
    "launcher.nodes",
    "launcher.slurm.",
    "launcher.ssh_port",
    "launcher.wait",
    "launcher.type",
    "memory.",
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

SIZES = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "train_batch_size",
    "global_batch_size",
)
"""Of the batch: only their product with the number of processes matters."""

LIGER = ("kernels.liger", "train.use_liger_kernel")
"""Two ways to choose Liger's kernels."""

PLACES = ("stage.", "offload.offload_param.")
"""Beginnings of keys that say where values lie, and how they are sent. They may change with the stage."""

LOSSY = ("stage.zero_quantized_",)
"""Beginnings of keys among them that change the values."""

LENGTHS = ("train.max_steps", "train.num_train_epochs")
"""May grow; the learning-rate schedule then ends later."""


def result_digest(plan: Plan) -> str:
    """A digest of everything that the trained model depends on."""
    values = _settings(plan)
    relevant = {
        key: value
        for key, value in values.items()
        if _is_relevant(key) and key not in LENGTHS and not _is_place(key)
    }
    decided = [_batch(plan), plan.engine.dtype, _kernels(plan)]
    text = json.dumps([relevant, *decided], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def result_changes(before: Plan, after: Plan) -> Iterator[Problem]:
    """A problem for each change with which the run would not be the same experiment."""
    moves = _stage(before) != _stage(after)
    for key, old, new in _changed(before, after):
        if (key in LENGTHS and _grows(old, new)) or (moves and _is_place(key)):
            continue
        reason = f"this run was started with {plain_text(old)}, and its result depends on it"
        fix = f"{key}={plain_text(old)}, or a new folder: leave hydra.run.dir out"
        allowed = f"{plain_text(old)} or more" if key in LENGTHS and _is_number(old) else plain_text(old)
        yield Problem(key, plain_text(new), reason, allowed, fix)
    if _batch(before) != _batch(after):
        yield _other_batch(before, after)
    old, new = _kernels(before), _kernels(after)
    if old != new:
        reason = f"this run was started with {old}, and its result depends on it"
        kept = in_effect(f"kernels={old}", Given(after.provenance))
        fix = f"{kept}, or a new folder: leave hydra.run.dir out"
        yield Problem("kernels", new, reason, old, fix)


def _other_batch(before: Plan, after: Plan) -> Problem:
    """The overrides that give the batch of before, on the processes of now."""
    wanted, one_pass = _batch(before), after.sequences_per_pass
    processes = one_pass // after.micro_batch
    if wanted % one_pass == 0:
        fix = f"batch.gradient_accumulation_steps={wanted // one_pass}"
    elif wanted % processes == 0:
        fix = f"batch.gradient_accumulation_steps=1 batch.per_device_train_batch_size={wanted // processes}"
    else:
        fix = f"a number of processes that divides {wanted}: launcher.nproc_per_node"
    batch = after.experiment.batch
    if batch.sequences is not None:
        fix += f" {batch.sequences_key}=null"
    reason = f"this run was started with {wanted} sequences in one step, and its result depends on it"
    return Problem("batch", f"{_batch(after)} sequences in one step", reason, str(wanted), fix)


def other_changes(before: Plan, after: Plan) -> list[str]:
    """The changes that are allowed, as lines for people, with packages of another version."""
    old, new = _settings(before), _settings(after)
    lines = [
        f"{key}: {plain_text(old.get(key))} -> {plain_text(new.get(key))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and not key.startswith("resume.")
    ]
    if before.launch.world_size != after.launch.world_size:
        lines.append(f"processes: {before.launch.world_size} -> {after.launch.world_size}")
    versions = [
        f"{name} {version} -> {after.versions.get(name, 'not installed')}"
        for name, version in before.versions.items()
        if after.versions.get(name) != version
    ]
    return lines + versions


def is_longer(before: Plan, after: Plan) -> bool:
    """Whether the run now goes on beyond the end that it had: max_steps decides where it is set."""
    deciding = "train.max_steps" if after.experiment.train.max_steps > 0 else "train.num_train_epochs"
    return any(key == deciding and _grows(old, new) for key, old, new in _changed(before, after))


def _changed(before: Plan, after: Plan) -> Iterator[tuple[str, object, object]]:
    old, new = _settings(before), _settings(after)
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key) and _is_relevant(key):
            yield key, old.get(key), new.get(key)


def _is_relevant(key: str) -> bool:
    """Whether the result depends on the key. Of processes, batch and kernels, what was decided counts."""
    is_size = key in {f"batch.{name}" for name in SIZES}
    return not key.startswith(FREE) and not is_size and key not in ("launcher.nproc_per_node", *LIGER)


def _is_place(key: str) -> bool:
    return key.startswith(PLACES) and not key.startswith(LOSSY)


def _stage(plan: Plan) -> int:
    return plan.experiment.stage.stage


def _batch(plan: Plan) -> int:
    """Sequences of all processes in one optimizer step."""
    return plan.sequences_per_pass * plan.accumulation


def _kernels(plan: Plan) -> str:
    """The option of the group `kernels` that does the same."""
    if not plan.training_arguments.get("use_liger_kernel"):
        return "none"
    switches = plan.training_arguments.get("liger_kernel_config") or {}
    added = switches.keys() - plan.experiment.train.liger_kernel_config.keys()
    return "fused_loss" if added & LAYER_KERNELS else "liger"


def _settings(plan: Plan) -> Tree:
    """The settings by their keys, without secrets: the plan of the attempt before has none."""
    values = flatten(settings_without_secrets(plan.experiment))
    return {key: value for key, value in values.items() if value != {}}


def _grows(old: object, new: object) -> bool:
    return _is_number(old) and _is_number(new) and old < new


def _is_number(value: object) -> TypeGuard[float]:
    """Above 0: -1 stands for a length that another key decides."""
    return isinstance(value, int | float) and value > 0
