"""The options of the config groups: the keys that tell them apart, and what an option sets them to."""

from functools import cache

import yaml

from zpipe.resources import CONF, config_groups
from zpipe.schema.experiment import Experiment, defaults
from zpipe.trees import Tree, flatten, value_at

AUTO = "auto"
"""The option that leaves the choice to the plan, in some groups."""

DECIDING = {
    "stage": ("stage.stage",),
    "offload": ("offload.offload_optimizer.device", "offload.offload_param.device"),
    "precision": ("precision.dtype",),
    "optimizer": ("optimizer.type", "optimizer.optim"),
    "scheduler": ("scheduler.type", "scheduler.lr_scheduler_type"),
    "batch": ("batch.per_device_train_batch_size",),
    "activation_checkpointing": ("activation_checkpointing.enabled", "train.gradient_checkpointing"),
    "kernels": ("kernels.liger",),
    "compile": ("compile.deepcompile", "compile.regional", "train.torch_compile"),
    "checkpoint": ("checkpoint.save_strategy",),
    "launcher": ("launcher.type",),
    "tracking": ("tracking.enabled",),
    "data": ("data.source",),
}
"""By group, the keys that tell its options apart. An override of such a key outweighs the option."""

_HEADER = "# @package "


def deciding_values(group: str, option: str) -> Tree:
    """The values with which an option is in effect, by their keys."""
    values, default = sets(group, option), flatten(defaults())
    return {key: values.get(key, default.get(key)) for key in DECIDING.get(group, ())}


def option_of(group: str, experiment: Experiment) -> str | None:
    """The option that is in effect, but for other keys; None if several sizes or none are possible."""
    for option in config_groups()[group]:
        values = deciding_values(group, option)
        if option != AUTO and all(value_at(experiment, key) == value for key, value in values.items()):
            return option
    return None


@cache
def sets(group: str, option: str) -> Tree:
    """What the file of the option sets, by dotted keys."""
    text = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
    packages = [line.removeprefix(_HEADER) for line in text.splitlines() if line.startswith(_HEADER)]
    block = yaml.safe_load(text) or {}
    package = packages[0] if packages else group
    return flatten(block if package == "_global_" else {package: block})
