"""What DeepSpeed no longer has, and what takes its place.

Upstream: deepspeed/runtime/config.py (_REMOVED_TOP_LEVEL_CONFIG_KEYS, _REMOVED_ZERO_CONFIG_KEYS) and
deepspeed/runtime/zero/config.py (deprecated fields). DeepSpeed 0.19 raises for the removed keys, and for a
deprecated one beside its successor.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Removed:
    reason: str
    instead: str = ""
    """An override that does what is left of it; empty where nothing does."""


_GONE = "DeepSpeed 0.19 has removed it"

KEYS: dict[str, Removed] = {
    "amp": Removed(f"{_GONE}: mixed precision through Apex", "precision=bf16 or precision=fp16"),
    "nebula": Removed(f"{_GONE}: Nebula checkpoints"),
    "compression_training": Removed(f"{_GONE}: the compression library"),
    "quantize_training": Removed(f"{_GONE}: mixture of quantisation"),
    "eigenvalue": Removed(f"{_GONE}: mixture of quantisation"),
    "sparse_gradients": Removed(f"{_GONE}: gradients of an embedding with sparse=True need no key"),
    "sparse_attention": Removed(f"{_GONE}: sparse attention", "model.attn_implementation=flash_attention_2"),
    "elasticity": Removed(
        f"{_GONE}: elastic training", "batch.train_batch_size=256, from which zpipe derives the accumulation"
    ),
    "graph_harvesting": Removed(f"{_GONE}: graph harvesting", "compile=torch"),
    "curriculum_learning": Removed(f"{_GONE} from the top level"),
    "progressive_layer_drop": Removed(f"{_GONE}: progressive layer dropping"),
    "mics_shard_size": Removed(f"{_GONE}: MiCS", "zeropp=hpz"),
    "mics_hierarchical_params_gather": Removed(f"{_GONE}: MiCS", "zeropp=hpz"),
    "zeropp_loco_param": Removed(f"{_GONE}: LoCo", "zeropp=quantized"),
    "cpu_offload": Removed("deprecated, and an error beside its successor", "offload=cpu_optimizer"),
    "cpu_offload_param": Removed("deprecated, and an error beside its successor", "offload=cpu"),
    "cpu_offload_use_pin_memory": Removed(
        "deprecated, and an error beside its successor", "offload.pin_memory=true"
    ),
    "stage3_gather_fp16_weights_on_model_save": Removed(
        "deprecated, and an error beside its successor",
        "stage.stage3_gather_16bit_weights_on_model_save=true",
    ),
    "check_overflow": Removed("DeepSpeed has renamed it", "precision.bf16.check_grad_overflow=true"),
    "thread_count": Removed("DeepSpeed has renamed it", "offload.aio.intra_op_parallelism=1"),
    "num_threads": Removed(
        "ds_nvme_tune prints it, DeepSpeed reads another", "offload.aio.intra_op_parallelism=1"
    ),
    "bfloat16": Removed("DeepSpeed has renamed the block to bf16", "precision=bf16"),
}
"""By the last part of a key."""

OPTIMIZERS: dict[str, Removed] = {
    "onebitadam": Removed(f"{_GONE}: 1-bit optimizers", "optimizer=adamw with zeropp=quantized"),
    "onebitlamb": Removed(f"{_GONE}: 1-bit optimizers", "optimizer=lamb"),
    "zerooneadam": Removed(f"{_GONE}: 1-bit optimizers", "optimizer=adamw with zeropp=quantized"),
}
"""By the optimizer's name in lower case, without underscores."""


def removed_key(key: str) -> Removed | None:
    """What happened to a key that DeepSpeed once had, by any part of its dotted name."""
    return next((KEYS[part] for part in reversed(key.split(".")) if part in KEYS), None)


def removed_optimizer(name: str) -> Removed | None:
    return OPTIMIZERS.get(name.lower().replace("_", "").replace("-", ""))
