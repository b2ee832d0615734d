"""Explains each key of the DeepSpeed JSON; the counterpart of zpipe/compile/ds_config.py.

A key with the same value as its key in the Experiment needs no entry here. `RULES` lists the keys whose
values are derived. A test finds keys that have neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from zpipe.plans.provenance import Derivation
from zpipe.schema.experiment import Experiment
from zpipe.schema.json_names import experiment_keys
from zpipe.trees import ancestors, leaves, value_at


@dataclass(frozen=True)
class Rule:
    """How a value is derived, and from which other keys of the Experiment."""

    text: str
    keys: tuple[str, ...] = ()


_MODEL = ("model.config.hidden_size", "model.name_or_path")
_GPU = ("hardware.gpu_memory_gib",)
_BOUNDED = "at most 1 % of its memory and the elements of the model"
_STATES, _PARAMETERS = "offload.offload_optimizer.device", "offload.offload_param.device"
_BATCH = (
    "batch.per_device_train_batch_size",
    "batch.gradient_accumulation_steps",
    "batch.train_batch_size",
    "batch.global_batch_size",
)
_DTYPE = Rule(
    "by the precision; auto is bf16 on GPUs that support it, fp16 on older GPUs, fp32 on the CPU",
    ("precision.dtype", "launcher.device"),
)
_BOTH = Rule("one setting for optimizer states and parameters", ("offload.pin_memory",))
_OWN_FOLDER = Rule("a folder for this run only, because DeepSpeed empties it at start")
_WARMUP = Rule("at least 1, as DeepSpeed requires; below 1 a share of all steps", ("train.warmup_steps",))
_PEAK = Rule("the learning rate", ("train.learning_rate",))

RULES: Mapping[str, Rule] = {
    "train_batch_size": Rule("micro-batch x accumulation x processes", (*_BATCH, "launcher.nproc_per_node")),
    "gradient_accumulation_steps": Rule("train_batch_size / (micro-batch x processes)", _BATCH),
    "train_micro_batch_size_per_gpu": Rule("train_batch_size / (accumulation x processes)", _BATCH),
    "fp16.enabled": _DTYPE,
    "bf16.enabled": _DTYPE,
    "zero_optimization.reduce_bucket_size": Rule(
        f"on a GPU 2e8, {_BOUNDED}; otherwise hidden_size x hidden_size, transformers' formula for auto",
        (*_MODEL, *_GPU),
    ),
    "zero_optimization.stage3_prefetch_bucket_size": Rule(
        f"on a GPU 1e8, {_BOUNDED}; otherwise 0.9 x hidden_size x hidden_size, transformers' formula for "
        "auto; 0 if parameters are swapped, 1 if they are gathered sequentially",
        (*_MODEL, *_GPU, _PARAMETERS, "stage.stage3_allgather_sequential"),
    ),
    "zero_optimization.stage3_param_persistence_threshold": Rule(
        "on a GPU 1e6, if such parameters take at most 1 % of its memory; otherwise 10 x hidden_size, "
        "transformers' formula for auto; less if parameters are swapped",
        (*_MODEL, *_GPU, _PARAMETERS),
    ),
    "zero_optimization.sub_group_size": Rule(
        "1 if optimizer states are swapped, because larger groups can be read misaligned; otherwise 1e9",
        (_STATES,),
    ),
    "zero_optimization.stage3_max_reuse_distance": Rule(
        "0 if parameters are swapped, because live parameters occupy buffers; otherwise 1e9", (_PARAMETERS,)
    ),
    "zero_optimization.zero_hpz_partition_size": Rule(
        "the processes of one node", ("launcher.nproc_per_node",)
    ),
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": Rule(
        "true if AutoTP splits layers: saving the shards reads it at every stage",
        ("deepspeed.tensor_parallel.autotp_size",),
    ),
    "zero_optimization.offload_optimizer.pin_memory": _BOTH,
    "zero_optimization.offload_param.pin_memory": _BOTH,
    "zero_optimization.offload_optimizer.nvme_path": _OWN_FOLDER,
    "zero_optimization.offload_param.nvme_path": _OWN_FOLDER,
    "zero_optimization.offload_optimizer.buffer_count": Rule(
        "one buffer for each state of a parameter", (_STATES, "optimizer.type")
    ),
    "zero_optimization.offload_param.buffer_count": Rule(
        "the number of parameters that are live or in flight at once", (_PARAMETERS, *_MODEL)
    ),
    "zero_optimization.offload_param.buffer_size": Rule("the largest parameter", (_PARAMETERS, *_MODEL)),
    "zero_optimization.offload_param.max_in_cpu": Rule(
        "keeps nothing in memory; DeepSpeed would silently keep 1e9 elements", (_PARAMETERS,)
    ),
    "optimizer.params.betas": Rule("both values", ("train.adam_beta1", "train.adam_beta2")),
    "optimizer.params.torch_adam": Rule(
        "PyTorch's Adam on a CPU without offload, which needs no operator",
        ("optimizer.type", "launcher.device", _STATES),
    ),
    "optimizer.params.adam_w_mode": Rule(
        "false, because DeepSpeed's Adam decouples weight decay by default", ("optimizer.type",)
    ),
    "scheduler.params.warmup_num_steps": _WARMUP,
    "scheduler.params.total_num_steps": Rule("the number of steps of the run", ("train.max_steps",)),
    "scheduler.params.warmup_min_lr": Rule("warmup starts at zero", ("scheduler.type",)),
    "scheduler.params.warmup_max_lr": _PEAK,
    "scheduler.params.lr_range_test_min_lr": Rule("starts at the learning rate", ("train.learning_rate",)),
    "scheduler.params.cycle_max_lr": _PEAK,
    "scheduler.params.cycle_min_lr": Rule("a tenth of cycle_max_lr", ("train.learning_rate",)),
    "scheduler.params": Rule("empty: all parameters have DeepSpeed's defaults", ("scheduler.type",)),
    "zero_force_ds_cpu_optimizer": Rule(
        "false, because accelerate would replace transformers' optimizer with DeepSpeed's CPU Adam",
        ("optimizer.optim", _STATES),
    ),
    "zero_allow_untested_optimizer": Rule(
        "DeepSpeed requires it for optimizers that it does not list", ("optimizer.type", "stage.stage")
    ),
}
UNEXPLAINED = Rule("decided by zpipe")
"""For keys without a rule, which no compiled plan should have."""


def derivations(config: Mapping[str, Any], experiment: Experiment) -> dict[str, Derivation]:
    """For each dotted key of the JSON, the keys and the rule that its value is derived from."""
    return {key: _derivation(key, value, experiment) for key, value in leaves(config)}


def experiment_key(key: str) -> str | None:
    """The key of the Experiment that sets a JSON key or the open mapping around it."""
    block = next((each for each in (key, *ancestors(key)) if each in experiment_keys()), None)
    return None if block is None else experiment_keys()[block] + key.removeprefix(block)


def _derivation(key: str, value: Any, experiment: Experiment) -> Derivation:
    source = experiment_key(key)
    if source is not None and value_at(experiment, source) == value:
        return _copied(source)
    rule = RULES.get(key, UNEXPLAINED)
    given = [name for name in (source, *rule.keys) if name and value_at(experiment, name) is not None]
    return _derived(rule.text, tuple(dict.fromkeys(given)))


@cache
def _copied(key: str) -> Derivation:
    return Derivation(keys=[key])


@cache
def _derived(rule: str, keys: tuple[str, ...]) -> Derivation:
    return Derivation(keys=list(keys), rule=rule)
