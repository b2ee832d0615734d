"""Which class implements an optimizer (deepspeed/runtime/engine.py, _configure_basic_optimizer)."""

from typing import Literal

from zpipe.facts.facts import Facts
from zpipe.schema.experiment import Experiment
from zpipe.schema.optimizer import TORCH_TYPES

Implementation = Literal["torch", "fused", "host"]

UNTESTED = frozenset({*TORCH_TYPES, "Lamb", "MuAdam", "MuAdamW", "MuSGD"})
"""Optimizers that ZeRO accepts only with zero_allow_untested_optimizer (deepspeed/runtime/zero/utils.py)."""

CLASSES: dict[str, dict[Implementation, str]] = {
    "AdamW": {"torch": "AdamW", "fused": "FusedAdam", "host": "DeepSpeedCPUAdam"},
    "Adam": {"torch": "Adam", "fused": "FusedAdam", "host": "DeepSpeedCPUAdam"},
    "Lamb": {"fused": "FusedLamb"},
    "Lion": {"fused": "FusedLion", "host": "DeepSpeedCPULion"},
    "Muon": {"fused": "MuonWithAuxAdam", "host": "MuonWithAuxAdam"},
    "Adagrad": {"torch": "Adagrad", "host": "DeepSpeedCPUAdagrad"},
}
"""Class names. A type that is missing here is a class of the same name in torch.optim."""


def runs_bf16_optimizer(experiment: Experiment, dtype: str) -> bool:
    """Whether stage 1 uses DeepSpeed's BF16_Optimizer (engine.py, _do_optimizer_sanity_check)."""
    accumulates_in_fp32 = experiment.precision.data_types.grad_accum_dtype == "fp32"
    on_device = experiment.offload.offload_optimizer.device == "none"
    return experiment.stage.stage == 1 and dtype == "bf16" and accumulates_in_fp32 and on_device


def uses_torch_adam(experiment: Experiment, facts: Facts) -> bool:
    """Whether PyTorch's Adam is used, which needs no DeepSpeed operator."""
    optimizer = experiment.optimizer
    if optimizer.type not in ("Adam", "AdamW"):
        return False
    if optimizer.params.torch_adam is not None:
        return optimizer.params.torch_adam
    return facts.device == "cpu" and experiment.offload.offload_optimizer.device == "none"


def implementation(experiment: Experiment, facts: Facts) -> Implementation:
    """PyTorch's class, DeepSpeed's fused class for the device, or DeepSpeed's class for the host."""
    optimizer = experiment.optimizer
    if optimizer.type in TORCH_TYPES or uses_torch_adam(experiment, facts):
        return "torch"
    if experiment.offload.offload_optimizer.device != "none":
        return "host"
    return "torch" if optimizer.type in ("Adagrad", "MuAdam", "MuAdamW", "MuSGD") else "fused"


def optimizer_class(experiment: Experiment, facts: Facts) -> str | None:
    """Name of the class that DeepSpeed creates; None for transformers' optimizers."""
    kind = experiment.optimizer.type
    if kind is None:
        return None
    variant = implementation(experiment, facts)
    if kind == "Adam" and variant == "torch" and experiment.optimizer.params.adam_w_mode:
        return "AdamW"
    name: str = CLASSES.get(kind, {}).get(variant, kind)
    return name
