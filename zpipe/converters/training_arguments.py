"""TrainingArguments, as a flat mapping of their names."""

from collections.abc import Mapping
from typing import Any

from zpipe.converters.result import Found, brief
from zpipe.problems import Problem, nearest
from zpipe.schema.train import Train
from zpipe.schema.training_arguments import DECIDED, NOT_OFFERED, OWNED

DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "num_train_epochs": 3.0,
    "max_steps": -1,
    "learning_rate": 5e-5,
    "warmup_steps": 0,
    "lr_scheduler_type": "linear",
}
"""transformers' defaults that decide the result, and that zpipe or its models set otherwise."""

OLD_NAMES = {
    "warmup_ratio": "warmup_steps",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
}
"""Names of earlier releases whose meaning the new one has; warmup_steps below 1 is a ratio."""

CONSEQUENTIAL = frozenset(
    {"fsdp", "parallelism_config", "auto_find_batch_size", "resume_from_checkpoint", "debug"}
)
"""Arguments that change what a run is, and that zpipe does not carry over."""

CHOICES = {"optim": "optimizer", "lr_scheduler_type": "scheduler"}
FLAGS = ("fp16", "bf16", "tf32")
STRATEGIES = ("eval_strategy", "save_strategy")


def known_arguments() -> frozenset[str]:
    """Every name of TrainingArguments."""
    return frozenset({*Train.model_fields, *OWNED, *DECIDED, *NOT_OFFERED})


def read_arguments(arguments: Mapping[str, Any], found: Found) -> None:
    """Puts every argument where it belongs, or says why not; `deepspeed` is the caller's."""
    found.arguments_seen = True
    for name, value in {**DEFAULTS, **_modern(arguments, found)}.items():
        if name != "deepspeed" and value is not None:
            _argument(name, value, found)


def _modern(arguments: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """The same under today's names; where both are there, the old one says nothing."""
    modern = dict(arguments)
    for old, new in OLD_NAMES.items():
        if not modern.get(old):
            modern.pop(old, None)
        elif not arguments.get(new):
            modern[new] = modern.pop(old)
            found.note(old, modern[new], f"an old name: carried over as {new}")
    return modern


def _argument(name: str, value: Any, found: Found) -> None:
    if name in STRATEGIES and value is False:
        value = "no"  # YAML 1.1 reads a bare no as false
    if name in FLAGS:
        found.formats[f"argument.{name}"] = bool(value)
    elif name in CHOICES:
        found.formats[f"argument.{name}"] = value
    elif name == "use_cpu":
        if value:
            found.put("launcher.device", "cpu", name)
    elif name == "output_dir":
        reason = "left out: each run has its own folder"
        found.note(name, value, reason, f"hydra.run.dir={value} for a single run")
    elif name in Train.model_fields:
        found.put(f"train.{name}", value, name)
    elif name in OWNED:
        found.put(OWNED[name], value, name)
    elif name in CONSEQUENTIAL and value:
        found.refuse(Problem(name, brief(value), DECIDED[name]), "left out")
    elif name in DECIDED:
        found.note(name, value, f"left out: {DECIDED[name]}")
    elif name in NOT_OFFERED:
        problem = Problem(name, brief(value), "zpipe does not offer this argument of TrainingArguments")
        found.refuse(problem, "left out")
    else:
        near = nearest(name, known_arguments())
        problem = Problem(name, brief(value), "no argument of TrainingArguments", fix=" or ".join(near))
        found.refuse(problem, "left out")
