"""The values that a choice consists of, and how they are told."""

from typing import Any

from zpipe.plans.choice import AutoChoice, Setting
from zpipe.plans.provenance import CHOSEN
from zpipe.schema.experiment import Experiment
from zpipe.search.search import Combination
from zpipe.search.shapes import with_micro_batch
from zpipe.trees import flatten

HEADLINES = {
    "stage": ("stage.stage",),
    "offload": ("offload.offload_optimizer.device", "offload.offload_param.device"),
    "batch": ("batch.per_device_train_batch_size",),
    "activation_checkpointing": ("train.gradient_checkpointing",),
    "kernels": ("kernels.liger",),
    "compile": ("compile.regional", "train.torch_compile"),
}
"""By group, the keys that are chosen, also where their value is the default."""
_DETAILS = (
    "stage.sub_group_size",
    "offload.offload_optimizer.ratio",
    "offload.pin_memory",
    "batch.gradient_accumulation_steps",
)
"""Keys in which two combinations may differ beside those."""
_PLACES = ("stage", "offload")
"""Groups whose other keys change with the option."""
COMES_ALONG = f"{CHOSEN}comes with the stage and the offload that were chosen"


def automatic_groups(experiment: Experiment) -> list[str]:
    return [name for name in HEADLINES if getattr(experiment.auto, name, False)]


def settings_of(before: Experiment, after: Experiment, choice: AutoChoice) -> list[Setting]:
    """Every chosen value, and those that come with the option of the group, with the reason."""
    old, new = _values(before, choice.groups), _values(after, choice.groups)
    changed = [key for key in new if new[key] != old.get(key)]
    keys = [key for name in choice.groups for key in HEADLINES[name]]
    keys += [key for key in _DETAILS if key in changed and new[key] != "auto"]
    others = [key for key in changed if key not in keys]
    return [
        *(Setting(key=key, value=new[key], reason=choice.why) for key in keys),
        *(Setting(key=key, value=new[key], reason=COMES_ALONG) for key in others),
    ]


def differences(best: Combination, other: Combination) -> dict[str, Any]:
    """By key, the values of the other combination that the best one does not have."""
    one, two = _headline_values(best), _headline_values(other)
    return {key: value for key, value in two.items() if value != one.get(key)}


def headline(combination: Combination) -> str:
    """`stage 3, offload cpu, micro-batch 1, recomputation`."""
    shape, setup = combination.shape, combination.setup
    parts = [f"stage {shape.stage}"]
    parts += (
        [] if setup.optimizer_device == setup.parameter_device == "none" else [f"offload {shape.offload}"]
    )
    parts += [f"micro-batch {setup.micro_batch}"]
    parts += ["recomputation"] if setup.recomputes else []
    return ", ".join([*parts, *(["compiled layers"] if setup.is_compiled else [])])


def _values(experiment: Experiment, groups: list[str]) -> dict[str, Any]:
    keys = [*(key for name in groups for key in HEADLINES[name]), *_DETAILS]
    places = experiment.model_dump(include=set(_PLACES))
    return {**flatten(places), **{key: _value(experiment, key) for key in keys}}


def _headline_values(combination: Combination) -> dict[str, Any]:
    experiment = with_micro_batch(combination.shape.experiment, combination.setup.micro_batch)
    keys = [*(key for keys in HEADLINES.values() for key in keys), *_DETAILS]
    return {key: _value(experiment, key) for key in keys}


def _value(experiment: Experiment, key: str) -> Any:
    value: Any = experiment
    for name in key.split("."):
        value = getattr(value, name)
    return value
