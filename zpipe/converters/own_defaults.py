"""Parameters that a JSON leaves to the defaults of DeepSpeed's optimizer and scheduler classes.

Upstream: deepspeed/ops, torch/optim, deepspeed/runtime/lr_schedules.py. A test compares the values.
"""

from zpipe.converters.result import Draft, same
from zpipe.schema.optimizer import SHARED_PARAMS
from zpipe.schema.train import Train

TRAIN_KEYS: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "betas": ("adam_beta1", "adam_beta2"),
    "eps": ("adam_epsilon",),
    "weight_decay": ("weight_decay",),
}
"""The names under `train` of each parameter that several optimizers share."""

USUAL: dict[str, tuple[float, ...]] = {
    "lr": (0.001,),
    "betas": (0.9, 0.999),
    "eps": (1e-8,),
    "weight_decay": (0.0,),
}
OTHERS: dict[str, dict[str, tuple[float, ...]]] = {
    "Adagrad": {"lr": (0.01,), "eps": (1e-10,)},
    "RMSprop": {"lr": (0.01,)},
    "NAdam": {"lr": (0.002,)},
    "Adamax": {"lr": (0.002,)},
    "ASGD": {"lr": (0.01,)},
    "Rprop": {"lr": (0.01,)},
    "Adadelta": {"lr": (1.0,), "eps": (1e-6,)},
    "Adafactor": {"lr": (0.01,)},
}
"""What differs from USUAL, by optimizer."""

TORCH_ADAM_WEIGHT_DECAY = (0.01,)
NOT_COMPARED = frozenset({"Muon", "MuAdam", "MuAdamW", "MuSGD"})
"""Optimizers whose defaults depend on the parameter, or whose package is not installed."""

DECAY_PEAK = 0.001
"""Peak of WarmupDecayLR; that of WarmupLR is the optimizer's learning rate."""


def defaults_of(kind: str, torch_adam: bool = False) -> dict[str, tuple[float, ...]]:
    """The defaults of the shared parameters of this optimizer."""
    adam = {"weight_decay": TORCH_ADAM_WEIGHT_DECAY} if torch_adam else {}
    return {**USUAL, **OTHERS.get(kind, {}), **adam}


def keep_optimizer_defaults(draft: Draft) -> None:
    """Sets what the JSON's optimizer takes for missing parameters, whatever TrainingArguments say."""
    kind = draft.pending.get("json.optimizer", "")
    if "optimizer" in draft.overridden:
        return
    present = {name for name in TRAIN_KEYS if f"optimizer.params.{name}" in draft.present}
    if _scheduler_sets_the_rate(draft):
        present.add("lr")
    missing = sorted(SHARED_PARAMS.get(kind, frozenset()) - present)
    if kind not in NOT_COMPARED:
        own = defaults_of(kind, bool(draft.values.get("optimizer.params.torch_adam")))
        changed = [name for name in missing if _set(name, own[name], draft)]
        given = ", ".join(f"{name}={_text(own[name])}" for name in changed)
        reason = f"not given: {kind} uses its own defaults: {given}"
    else:
        changed = missing
        names = ", ".join(f"train.{each}" for name in missing for each in TRAIN_KEYS[name])
        reason = f"not given: zpipe sets {names} instead of {kind}'s own defaults"
    if changed:
        draft.note(", ".join(f"optimizer.params.{name}" for name in changed), "", reason)


def _scheduler_sets_the_rate(draft: Draft) -> bool:
    peaks = {"scheduler.params.warmup_max_lr", "scheduler.params.cycle_max_lr"}
    source = draft.sources.get("train.learning_rate", "")
    return bool(peaks & draft.present) or source in peaks


def _set(name: str, own: tuple[float, ...], draft: Draft) -> bool:
    """Sets the parameter under `train`, unless it has this value; returns whether it did."""
    keys = [f"train.{each}" for each in TRAIN_KEYS[name]]
    defaults = [Train.model_fields[each].default for each in TRAIN_KEYS[name]]
    current = [draft.values.get(key, default) for key, default in zip(keys, defaults, strict=True)]
    if draft.overridden.intersection(keys) or all(map(same, current, own)):
        return False
    for key, value in zip(keys, own, strict=True):
        draft.values[key] = value
        draft.sources[key] = f"optimizer.params.{name}"
    return True


def _text(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else str(list(values))
