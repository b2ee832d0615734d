"""Keys and optimizers that DeepSpeed has removed or renamed, with their replacements.

Upstream: deepspeed/runtime/config.py (_REMOVED_TOP_LEVEL_CONFIG_KEYS, _REMOVED_ZERO_CONFIG_KEYS) and
deepspeed/runtime/zero/config.py (deprecated fields). DeepSpeed 0.19 raises for the removed keys, and for a
deprecated key if its replacement is also set.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Removed:
    reason: str
    instead: str = ""
    """The override that comes closest; empty if there is none."""


_GONE = "removed from DeepSpeed"

KEYS: dict[str, Removed] = {
    "amp": Removed(f"{_GONE}: mixed precision through Apex", "precision=bf16, or precision=fp16"),
    "nebula": Removed(f"{_GONE}: Nebula checkpoints"),
    "compression_training": Removed(f"{_GONE}: the compression library"),
    "quantize_training": Removed(f"{_GONE}: Mixture of Quantization"),
    "eigenvalue": Removed(f"{_GONE}: Mixture of Quantization"),
    "sparse_gradients": Removed(f"{_GONE}: an embedding with sparse=True needs no key"),
    "sparse_attention": Removed(f"{_GONE}: sparse attention", "model.attn_implementation=flash_attention_2"),
    "elasticity": Removed(
        f"{_GONE}: elastic training; zpipe derives the accumulation from batch.train_batch_size",
        "batch.train_batch_size=256",
    ),
    "graph_harvesting": Removed(f"{_GONE}: graph harvesting", "compile=torch"),
    "curriculum_learning": Removed(f"{_GONE}: curriculum learning at the top level"),
    "progressive_layer_drop": Removed(f"{_GONE}: progressive layer dropping"),
    "mics_shard_size": Removed(f"{_GONE}: MiCS", "stage=3 zeropp=hpz"),
    "mics_hierarchical_params_gather": Removed(f"{_GONE}: MiCS", "stage=3 zeropp=hpz"),
    "zeropp_loco_param": Removed(f"{_GONE}: LoCo", "stage=3 zeropp=quantized"),
    "cpu_offload": Removed(
        "deprecated, and an error if its replacement is also set", "offload=cpu_optimizer"
    ),
    "cpu_offload_param": Removed(
        "deprecated, and an error if its replacement is also set", "stage=3 offload=cpu"
    ),
    "cpu_offload_use_pin_memory": Removed(
        "deprecated, and an error if its replacement is also set", "offload.pin_memory=true"
    ),
    "stage3_gather_fp16_weights_on_model_save": Removed(
        "deprecated, and an error if its replacement is also set",
        "stage.stage3_gather_16bit_weights_on_model_save=true",
    ),
    "check_overflow": Removed("DeepSpeed has renamed it", "precision.bf16.check_grad_overflow=true"),
    "thread_count": Removed("DeepSpeed has renamed it", "offload.aio.intra_op_parallelism=1"),
    "num_threads": Removed(
        "ds_nvme_tune prints this name, but DeepSpeed reads another one", "offload.aio.intra_op_parallelism=1"
    ),
    "bfloat16": Removed("DeepSpeed has renamed the block to bf16", "precision=bf16"),
}
"""By the name of a key or block."""

REFUSED_AT_THE_TOP = frozenset(
    {
        "amp",
        "nebula",
        "compression_training",
        "quantize_training",
        "eigenvalue",
        "sparse_gradients",
        "sparse_attention",
        "elasticity",
        "graph_harvesting",
        "curriculum_learning",
        "progressive_layer_drop",
    }
)
"""Those that DeepSpeed refuses at the top level; it ignores the others there."""

OPTIMIZERS: dict[str, Removed] = {
    "onebitadam": Removed(f"{_GONE}: 1-bit optimizers", "optimizer=adamw stage=3 zeropp=quantized"),
    "onebitlamb": Removed(f"{_GONE}: 1-bit optimizers", "optimizer=lamb"),
    "zerooneadam": Removed(f"{_GONE}: 1-bit optimizers", "optimizer=adamw stage=3 zeropp=quantized"),
}
"""By the optimizer's name in lower case, without underscores."""


def removed_key(key: str) -> Removed | None:
    """The entry of the innermost part of a dotted name that has one; None if no part has."""
    return next((KEYS[part] for part in reversed(key.split(".")) if part in KEYS), None)


def removed_optimizer(name: str) -> Removed | None:
    """The removed optimizer of this name, in any spelling; None if it was not removed."""
    return OPTIMIZERS.get(name.lower().replace("_", "").replace("-", ""))
