"""What each key of the DeepSpeed JSON follows from; the twin of zpipe/compile/ds_config.py.

A key that stands at the value of its home in the Experiment needs no entry here. `RULES` has those that
are worked out, and a test finds keys with neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from zpipe.plan.provenance import Derivation
from zpipe.schema.experiment import Experiment
from zpipe.schema.json_names import homes
from zpipe.trees import ancestors, leaves, value_at


@dataclass(frozen=True)
class Rule:
    """How a value is worked out, and from which further keys of the Experiment."""

    text: str
    keys: tuple[str, ...] = ()


_MODEL = ("model.config.hidden_size", "model.name_or_path")
_STATES, _PARAMETERS = "offload.offload_optimizer.device", "offload.offload_param.device"
_BATCH = ("batch.per_device_train_batch_size", "batch.gradient_accumulation_steps", "batch.train_batch_size")
_FORMAT = Rule(
    "by the precision; auto is bf16 where the GPU has it, fp16 on older GPUs, fp32 on the CPU",
    ("precision.dtype", "launcher.device"),
)
_BOTH = Rule("one setting for optimizer states and parameters", ("offload.pin_memory",))
_OWN_FOLDER = Rule("a folder of this run's own, because DeepSpeed empties it at the start")
_WARMUP = Rule("at least 1, as DeepSpeed demands; below 1 the share of all steps", ("train.warmup_steps",))
_PEAK = Rule("the learning rate", ("train.learning_rate",))

RULES: Mapping[str, Rule] = {
    "train_batch_size": Rule("micro-batch x accumulation x processes", (*_BATCH, "launcher.nproc_per_node")),
    "gradient_accumulation_steps": Rule("train_batch_size / (micro-batch x processes)", _BATCH),
    "fp16.enabled": _FORMAT,
    "bf16.enabled": _FORMAT,
    "zero_optimization.reduce_bucket_size": Rule(
        "hidden_size x hidden_size, transformers' formula for auto", _MODEL
    ),
    "zero_optimization.stage3_prefetch_bucket_size": Rule(
        "0.9 x hidden_size x hidden_size, transformers' formula for auto; 0 where parameters are swapped, "
        "1 where they are gathered in sequence",
        (*_MODEL, _PARAMETERS, "stage.stage3_allgather_sequential"),
    ),
    "zero_optimization.stage3_param_persistence_threshold": Rule(
        "10 x hidden_size, transformers' formula for auto; less where parameters are swapped",
        (*_MODEL, _PARAMETERS),
    ),
    "zero_optimization.sub_group_size": Rule(
        "1 where optimizer states are swapped, because larger groups can be read misaligned; otherwise 1e9",
        (_STATES,),
    ),
    "zero_optimization.stage3_max_reuse_distance": Rule(
        "0 where parameters are swapped, because kept parameters hold buffers; otherwise 1e9", (_PARAMETERS,)
    ),
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": Rule(
        "true where AutoTP splits layers: read at every stage when the shards are saved",
        ("deepspeed.tensor_parallel.autotp_size",),
    ),
    "zero_optimization.offload_optimizer.pin_memory": _BOTH,
    "zero_optimization.offload_param.pin_memory": _BOTH,
    "zero_optimization.offload_optimizer.nvme_path": _OWN_FOLDER,
    "zero_optimization.offload_param.nvme_path": _OWN_FOLDER,
    "zero_optimization.offload_optimizer.buffer_count": Rule(
        "a buffer for each state of a parameter", (_STATES, "optimizer.type")
    ),
    "zero_optimization.offload_param.buffer_count": Rule(
        "as many as are live or in flight at a time", (_PARAMETERS, *_MODEL)
    ),
    "zero_optimization.offload_param.buffer_size": Rule("the largest parameter", (_PARAMETERS, *_MODEL)),
    "zero_optimization.offload_param.max_in_cpu": Rule(
        "nothing stays in memory; DeepSpeed would quietly keep 1e9 elements", (_PARAMETERS,)
    ),
    "optimizer.params.betas": Rule("the pair", ("train.adam_beta1", "train.adam_beta2")),
    "optimizer.params.torch_adam": Rule(
        "PyTorch's Adam on a CPU without offload: no operator to build",
        ("optimizer.type", "launcher.device", _STATES),
    ),
    "optimizer.params.adam_w_mode": Rule(
        "DeepSpeed's Adam decouples the decay unless told otherwise", ("optimizer.type",)
    ),
    "scheduler.params.warmup_num_steps": _WARMUP,
    "scheduler.params.total_num_steps": Rule("the steps of the run", ("train.max_steps",)),
    "scheduler.params.warmup_min_lr": Rule("warmup starts at zero", ("scheduler.type",)),
    "scheduler.params.warmup_max_lr": _PEAK,
    "scheduler.params.lr_range_test_min_lr": Rule("the test starts there", ("train.learning_rate",)),
    "scheduler.params.cycle_max_lr": _PEAK,
    "scheduler.params.cycle_min_lr": Rule("a tenth of cycle_max_lr", ("train.learning_rate",)),
    "scheduler.params": Rule("none that differ from DeepSpeed's defaults", ("scheduler.type",)),
    "zero_force_ds_cpu_optimizer": Rule(
        "accelerate would put DeepSpeed's CPU Adam in the place of transformers' optimizer",
        ("optimizer.optim", _STATES),
    ),
    "zero_allow_untested_optimizer": Rule(
        "DeepSpeed asks for it with optimizers that it does not list", ("optimizer.type", "stage.stage")
    ),
}
UNEXPLAINED = Rule("decided by zpipe")
"""For keys without a rule; no compiled plan should have one."""


def derivations(config: Mapping[str, Any], experiment: Experiment) -> dict[str, Derivation]:
    """For each dotted key of the JSON what it follows from."""
    return {key: _derivation(key, value, experiment) for key, value in leaves(config)}


def home_of(key: str) -> str | None:
    """The key of the Experiment that a JSON key, or the open mapping around it, is set by."""
    block = next((each for each in (key, *ancestors(key)) if each in homes()), None)
    return None if block is None else homes()[block] + key.removeprefix(block)


def _derivation(key: str, value: Any, experiment: Experiment) -> Derivation:
    home = home_of(key)
    if home is not None and value_at(experiment, home) == value:
        return _taken_from(home)
    rule = RULES.get(key, UNEXPLAINED)
    given = [name for name in (home, *rule.keys) if name and value_at(experiment, name) is not None]
    return _worked_out(rule.text, tuple(dict.fromkeys(given)))


@cache
def _taken_from(home: str) -> Derivation:
    return Derivation(keys=[home])


@cache
def _worked_out(rule: str, keys: tuple[str, ...]) -> Derivation:
    return Derivation(keys=list(keys), rule=rule)
