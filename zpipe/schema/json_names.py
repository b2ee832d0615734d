"""Maps keys of the Experiment to keys of DeepSpeed's JSON, and back.

Keys are dotted: `stage.reduce_bucket_size` maps to `zero_optimization.reduce_bucket_size`.
"""

from collections.abc import Mapping
from functools import cache

from zpipe.schema.experiment import defaults
from zpipe.trees import leaves

PREFIXES: dict[str, str] = {
    "stage.": "zero_optimization.",
    "offload.offload_optimizer.": "zero_optimization.offload_optimizer.",
    "offload.offload_param.": "zero_optimization.offload_param.",
    "offload.aio.": "aio.",
    "precision.fp16.": "fp16.",
    "precision.bf16.": "bf16.",
    "precision.data_types.": "data_types.",
    "precision.torch_autocast.": "torch_autocast.",
    "optimizer.params.": "optimizer.params.",
    "scheduler.params.": "scheduler.params.",
    "activation_checkpointing.": "activation_checkpointing.",
    "compile.": "compile.",
    "checkpoint.parallel_write.": "checkpoint.parallel_write.",
    "checkpoint.writer.": "checkpoint.writer.",
    "profiler.": "",
    "deepspeed.": "",
}
"""Blocks whose keys have the same names in DeepSpeed's JSON."""

SINGLE: dict[str, str] = {
    "batch.per_device_train_batch_size": "train_micro_batch_size_per_gpu",
    "batch.gradient_accumulation_steps": "gradient_accumulation_steps",
    "batch.train_batch_size": "train_batch_size",
    "train.max_grad_norm": "gradient_clipping",
    "train.learning_rate": "optimizer.params.lr",
    "train.adam_beta1": "optimizer.params.betas",
    "train.adam_epsilon": "optimizer.params.eps",
    "train.weight_decay": "optimizer.params.weight_decay",
    "precision.communication_data_type": "communication_data_type",
    "optimizer.type": "optimizer.type",
    "optimizer.legacy_fusion": "optimizer.legacy_fusion",
    "scheduler.type": "scheduler.type",
    "offload.nvme_path": "zero_optimization.offload_param.nvme_path",
    "checkpoint.node_local": "checkpoint.use_node_local_storage",
    "checkpoint.tag_validation": "checkpoint.tag_validation",
    "checkpoint.load_universal": "checkpoint.load_universal",
    "checkpoint.checkpoint_serialization": "checkpoint.checkpoint_serialization",
}

ZPIPE_ONLY = frozenset({"activation_checkpointing.enabled", "compile.regional"})
"""Keys in these blocks that DeepSpeed does not have."""


def json_key(key: str) -> str | None:
    """DeepSpeed's name of a key; None if it is not a setting of DeepSpeed."""
    if key in SINGLE:
        return SINGLE[key]
    if key in ZPIPE_ONLY:
        return None
    for prefix, block in PREFIXES.items():
        if key.startswith(prefix):
            return block + key.removeprefix(prefix)
    return None


@cache
def experiment_keys() -> Mapping[str, str]:
    """For each key of DeepSpeed's JSON, the key of the Experiment that sets it."""
    pairs = ((json_key(key), key) for key, _ in leaves(defaults()))
    return {name: key for name, key in pairs if name is not None} | {
        "zero_optimization.offload_optimizer.nvme_path": "offload.nvme_path"
    }
