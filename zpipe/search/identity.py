"""What a measurement holds for: the workload, which is not searched, and the settings of a combination."""

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.machine.versions import installed_versions, version_of
from zpipe.plans.plan import settings_without_secrets
from zpipe.schema.experiment import Experiment
from zpipe.trees import flatten, value_at

_SEARCHED = ("stage", "offload", "kernels", "compile")
"""Groups that belong to a combination; so do the micro-batch and the accumulation."""
_SEARCHED_KEYS = ("train.gradient_checkpointing", "train.torch_compile")
"""Further keys of a combination."""
_ELSEWHERE = ("data.max_length", "data.packing", "model.attn_implementation", "launcher.env.")
"""Keys of the groups below that the speed depends on."""
_WITHOUT_EFFECT = (
    *(f"{group}." for group in _SEARCHED),
    *("auto.", "batch.", "checkpoint.", "data.", "hardware.", "launcher.", "memory.", "model.", "resume."),
    *("scheduler.", "strict", "tracking."),
    *(
        f"train.{name}"
        for name in (
            *("adam_", "data_seed", "ddp_timeout", "eval_", "greater_is_better", "ignore_data_skip"),
            *("learning_rate", "load_best_model_at_end", "logging_", "max_steps", "metric_for_best_model"),
            *("num_train_epochs", "prediction_loss_only", "seed", "warmup_steps", "weight_decay"),
        )
    ),
)
"""Beginnings of keys that are no part of the workload."""


def workload_digest(experiment: Experiment, facts: Facts) -> str:
    """Of everything that the speed depends on, and that is not searched."""
    settings = flatten(settings_without_secrets(experiment))
    kept = {key: value for key, value in settings.items() if _is_of_workload(key)}
    if experiment.data.packing == "none":  # sequences are as long as the examples
        kept |= {key: value for key, value in settings.items() if key.startswith("data.")}
    text = json_key([kept, _machine(facts), _model(facts), _versions(facts)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _is_of_workload(key: str) -> bool:
    if key in _SEARCHED_KEYS:
        return False
    return key.startswith(_ELSEWHERE) or not key.startswith(_WITHOUT_EFFECT)


def settings_of_shape(experiment: Experiment) -> dict[str, Any]:
    """What tells two shapes apart, as JSON values."""
    values = flatten(experiment.model_dump(mode="json", include=set(_SEARCHED)))
    given = {key: value for key, value in values.items() if value not in (None, {}, [])}
    return {**given, **{key: value_at(experiment, key) for key in _SEARCHED_KEYS}}


def about(facts: Facts) -> str:
    """`2 x NVIDIA H200, llama3_1b`."""
    gpus = facts.hardware.gpus if facts.device == "cuda" else ()
    machine = f"{len(gpus)} x {gpus[0].name}" if gpus else f"{facts.hardware.cores} CPU cores"
    return f"{machine}, {facts.model.name}"


def _machine(facts: Facts) -> dict[str, Any]:
    hardware = facts.hardware
    return {
        "device": facts.device,
        "gpus": [(gpu.name, gpu.memory) for gpu in hardware.gpus] if facts.device == "cuda" else [],
        "processes": facts.nproc_per_node,
        "cores": hardware.cores,
        "memory": hardware.memory,
        "cpu": _cpu(),
    }


def _model(facts: Facts) -> list[Any]:
    return [facts.model.config, facts.parameter_numels, facts.dtype]


def _versions(facts: Facts) -> Mapping[str, str]:
    liger = {"liger-kernel": version_of("liger-kernel")} if facts.liger.is_used else {}
    return {**installed_versions(), **liger}


def _cpu() -> str:
    """The name of its model, or of its architecture."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(names, platform.machine())
    except OSError:
        return platform.machine()


def json_key(value: object) -> str:
    """The same text for equal values."""
    return json.dumps(value, sort_keys=True, default=str)
