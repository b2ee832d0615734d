"""TrainingArguments as a flat mapping of argument names."""

from collections.abc import Mapping
from typing import Any

from zpipe.compose.translate import translated_key
from zpipe.converters.result import Draft, brief
from zpipe.hydra_text import plain_text
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
"""transformers' defaults that affect the result and differ from those of zpipe or its model options."""

OLD_NAMES = {
    "warmup_ratio": "warmup_steps",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
}
"""Names in earlier releases and their current names. warmup_steps below 1 is a ratio."""

CONSEQUENTIAL = frozenset(
    {"fsdp", "parallelism_config", "auto_find_batch_size", "resume_from_checkpoint", "debug"}
)
"""Arguments that change the run fundamentally and that zpipe cannot convert."""

OPTION_ARGUMENTS = ("optim", "lr_scheduler_type")
PRECISION_FLAGS = ("fp16", "bf16", "tf32")
STRATEGIES = ("eval_strategy", "save_strategy")


WITHOUT_EFFECT = {
    "group_by_length": "packed sequences have one length",
    "train_sampling_strategy": "packed sequences have one length",
    "length_column_name": "packed sequences have one length",
    "overwrite_output_dir": "each run has its own folder",
    "no_cuda": "launcher.device decides",
}
"""Arguments of current and older releases that do nothing in zpipe."""


def known_arguments() -> frozenset[str]:
    """All names of TrainingArguments."""
    return frozenset({*Train.model_fields, *OWNED, *DECIDED, *NOT_OFFERED})


def read_arguments(arguments: Mapping[str, Any], draft: Draft) -> None:
    """Converts or reports every argument except `deepspeed`, which the caller reads."""
    draft.has_arguments = True
    for name, value in {**DEFAULTS, **_with_current_names(arguments, draft)}.items():
        if name != "deepspeed" and value is not None:
            _argument(name, value, draft)


def _with_current_names(arguments: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    """The arguments without old names. If both names are set, the current one takes precedence."""
    renamed = dict(arguments)
    for old, new in OLD_NAMES.items():
        if not renamed.get(old):
            renamed.pop(old, None)
        elif not arguments.get(new):
            renamed[new] = renamed.pop(old)
            draft.note(old, renamed[new], f"old name: converted as {new}")
    return renamed


def _argument(name: str, value: Any, draft: Draft) -> None:
    if name in STRATEGIES and value is False:
        value = "no"  # YAML 1.1 reads a bare no as false
    if name in PRECISION_FLAGS:
        draft.pending[f"argument.{name}"] = bool(value)
    elif name in OPTION_ARGUMENTS:
        draft.pending[f"argument.{name}"] = value
    elif name == "use_cpu":
        if value:
            draft.put("launcher.device", "cpu", name)
    elif name == "output_dir":
        reason = "left out: each run has its own folder"
        draft.note(name, value, reason, f"hydra.run.dir={value} for a single run")
    elif name in Train.model_fields:
        draft.put(f"train.{name}", value, name)
    elif name in OWNED:
        draft.put(OWNED[name], value, name)
    else:
        _not_converted(name, value, draft)


def _not_converted(name: str, value: Any, draft: Draft) -> None:
    if name in CONSEQUENTIAL and value:
        draft.refuse(Problem(name, brief(value), DECIDED[name]), "left out")
    elif name in DECIDED:
        draft.note(name, value, f"left out: {DECIDED[name]}")
    elif name in WITHOUT_EFFECT:
        draft.note(name, value, f"left out: {WITHOUT_EFFECT[name]}")
    elif name in NOT_OFFERED:
        problem = Problem(name, brief(value), "zpipe does not support this argument of TrainingArguments")
        draft.refuse(problem, "left out")
    else:
        meant = translated_key(name, plain_text(value))
        fix = meant.fix if meant is not None else " or ".join(nearest(name, known_arguments()))
        problem = Problem(name, brief(value), "not an argument of TrainingArguments", fix=fix)
        draft.refuse(problem, "left out")
