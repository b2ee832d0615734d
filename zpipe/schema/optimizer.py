"""The optimizer: DeepSpeed's, one of torch.optim through DeepSpeed, or transformers' own.

Upstream: deepspeed/runtime/engine.py (_configure_basic_optimizer), deepspeed/ops, torch/optim,
transformers/training_args.py (OptimizerNames).
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from zpipe.schema.base import Group, Number

Fraction = Annotated[Number, Field(ge=0, lt=1)]
NonNegative = Annotated[Number, Field(ge=0)]

DEEPSPEED_TYPES = ("AdamW", "Adam", "Lamb", "Lion", "Muon", "Adagrad", "MuAdam", "MuAdamW", "MuSGD")
"""Optimizers that DeepSpeed builds itself; it ignores the case of their names."""

TORCH_TYPES = ("SGD", "RMSprop", "NAdam", "RAdam", "Adamax", "ASGD", "Rprop", "Adadelta", "Adafactor")
"""Optimizers that DeepSpeed loads from torch.optim, by their exact names."""


def _canonical_name(value: Any) -> Any:
    """`adamw` becomes AdamW: DeepSpeed ignores the case of its own names, and no two differ only by case."""
    names = {name.lower(): name for name in (*DEEPSPEED_TYPES, *TORCH_TYPES)}
    return names.get(value.lower(), value) if isinstance(value, str) else value


class OptimizerParams(Group):
    """Optimizer parameters; learning rate, betas, epsilon and weight decay are under `train`."""

    torch_adam: bool | None = None
    """Use PyTorch's Adam instead of DeepSpeed's; null decides by the device (Adam, AdamW)."""
    adam_w_mode: bool | None = None
    """Use decoupled weight decay (Adam, AdamW, Muon's Adam part)."""
    fp32_optimizer_states: bool | None = None
    """Keep the states of offloaded optimizers in fp32 (Adam, AdamW, Lion, Adagrad under offload)."""
    bias_correction: bool | None = None
    """Correct the bias of the moving averages at the start of training (Adam, AdamW, Lamb)."""
    amsgrad: bool | None = None
    """Use the AMSGrad variant (PyTorch's Adam and AdamW)."""
    set_grad_none: bool | None = None
    """Free gradients instead of zeroing them (fused Adam and Lion on a GPU)."""
    foreach: bool | None = None
    """Update all parameters in a few kernels (torch.optim)."""
    max_coeff: NonNegative | None = None
    """Largest trust ratio (Lamb)."""
    min_coeff: NonNegative | None = None
    """Smallest trust ratio (Lamb)."""
    eps_inside_sqrt: bool | None = None
    """Add epsilon inside the square root (Lamb)."""
    momentum: Fraction | None = None
    """Momentum (Muon, SGD, RMSprop)."""
    ns_method: Literal["gram", "standard"] | None = None
    """Newton-Schulz iteration that orthogonalizes the update (Muon)."""
    muon_lr: NonNegative | None = None
    """Learning rate of the weight matrices; null means train.learning_rate (Muon)."""
    adam_lr: NonNegative | None = None
    """Learning rate of all other parameters; null means train.learning_rate (Muon)."""
    dampening: NonNegative | None = None
    """Dampening of the momentum (SGD)."""
    nesterov: bool | None = None
    """Nesterov momentum (SGD)."""
    alpha: Number | None = None
    """Smoothing constant (RMSprop), or exponent of the step size's decay (ASGD)."""
    centered: bool | None = None
    """Normalize the gradient by its variance (RMSprop)."""
    momentum_decay: NonNegative | None = None
    """Decay of the momentum (NAdam)."""
    decoupled_weight_decay: bool | None = None
    """Use decoupled weight decay (NAdam, RAdam)."""
    lambd: NonNegative | None = None
    """Decay term (ASGD)."""
    t0: NonNegative | None = None
    """Step at which averaging starts (ASGD)."""
    rho: Fraction | None = None
    """Smoothing of the squared gradients (Adadelta)."""
    etas: list[float] | None = None
    """Factors of decrease and increase (Rprop)."""
    step_sizes: list[float] | None = None
    """Smallest and largest step size (Rprop)."""
    lr_decay: NonNegative | None = None
    """Decay of the learning rate (Adagrad without offload)."""
    initial_accumulator_value: NonNegative | None = None
    """Initial value of the sum of squared gradients (Adagrad without offload)."""
    beta2_decay: Number | None = None
    """Exponent of the decay of the mean squared gradient (PyTorch's Adafactor)."""
    d: Annotated[Number, Field(gt=0)] | None = None
    """Clipping threshold of an update (PyTorch's Adafactor)."""


class Optimizer(Group):
    """The optimizer. Its learning rate, betas, epsilon and weight decay are under `train`."""

    type: Annotated[
        Literal[DEEPSPEED_TYPES + TORCH_TYPES] | None,  # type: ignore[valid-type]
        BeforeValidator(_canonical_name),
    ] = None
    """An optimizer of DeepSpeed, or of torch.optim through DeepSpeed; it is written to the JSON."""
    params: OptimizerParams = Field(default_factory=OptimizerParams)
    legacy_fusion: bool | None = None
    """Use the older fused fp16 update without ZeRO, which DeepSpeed keeps for old checkpoints."""
    optim: (
        Literal[
            "adamw_torch",
            "adamw_torch_fused",
            "adafactor",
            "sgd",
            "adagrad",
            "rmsprop",
            "adamw_bnb_8bit",
            "lion_32bit",
            "lion_8bit",
            "paged_adamw_32bit",
            "paged_adamw_8bit",
            "schedule_free_adamw",
            "stable_adamw",
        ]
        | None
    ) = None
    """An optimizer of transformers, by its name in TrainingArguments."""
    optim_args: str | None = None
    """Additional arguments of `optim`, in TrainingArguments' syntax: `name=value,name=value`."""


TORCH_ADAM_PARAMS = frozenset({"amsgrad", "foreach"})
COMMON_PARAMS = frozenset({"lr", "weight_decay"})
ADAM_COMMON = COMMON_PARAMS | {"betas", "eps"}

SHARED_PARAMS: dict[str, frozenset[str]] = {
    "AdamW": ADAM_COMMON,
    "Adam": ADAM_COMMON,
    "Lamb": ADAM_COMMON,
    "Lion": COMMON_PARAMS | {"betas"},
    "Muon": ADAM_COMMON,
    "Adagrad": COMMON_PARAMS | {"eps"},
    "MuAdam": ADAM_COMMON,
    "MuAdamW": ADAM_COMMON,
    "MuSGD": COMMON_PARAMS,
    "SGD": COMMON_PARAMS,
    "RMSprop": COMMON_PARAMS | {"eps"},
    "NAdam": ADAM_COMMON,
    "RAdam": ADAM_COMMON,
    "Adamax": ADAM_COMMON,
    "ASGD": COMMON_PARAMS,
    "Rprop": frozenset({"lr"}),
    "Adadelta": COMMON_PARAMS | {"eps"},
    "Adafactor": COMMON_PARAMS,
}
"""For each optimizer, those of lr, betas, eps and weight_decay (set under `train`) that it accepts."""

TRANSFORMERS_PARAMS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("adafactor", "sgd", "adagrad", "rmsprop"), COMMON_PARAMS),
    **dict.fromkeys(("lion_32bit", "lion_8bit"), COMMON_PARAMS | {"betas"}),
}
"""The same for transformers' optimizers (transformers/trainer_optimizer.py); all others accept all four."""


def shared_params_of(optimizer: Optimizer) -> frozenset[str]:
    """Those of lr, betas, eps and weight_decay that the chosen optimizer accepts."""
    if optimizer.type is not None:
        return SHARED_PARAMS[optimizer.type]
    return TRANSFORMERS_PARAMS.get(optimizer.optim or "", ADAM_COMMON)


ArgKind = Literal["number", "boolean", "true"]

OPTIM_ARGS: dict[str, dict[str, ArgKind]] = {
    "sgd": {"momentum": "number", "dampening": "number", "nesterov": "boolean"},
    "adagrad": {"lr_decay": "number", "eps": "number"},
    "rmsprop": {"momentum": "number", "alpha": "number", "eps": "number", "centered": "boolean"},
    "schedule_free_adamw": {"weight_lr_power": "number", "r": "number"},
    "stable_adamw": {"max_lr": "number", "kahan_sum": "true", "decouple_lr": "true"},
}
"""For each of transformers' optimizers, the names that it reads from optim_args; all others read none.

Each name has the kind of its values. "true": any text turns it on, so only `true` is accepted.
weight_decay is missing because train.weight_decay overrides it. A test compares these names with the
installed transformers/trainer_optimizer.py.
"""

ADAM_PARAMS = frozenset(
    {
        "torch_adam",
        "adam_w_mode",
        "fp32_optimizer_states",
        "bias_correction",
        "amsgrad",
        "set_grad_none",
        "foreach",
    }
)

OWN_PARAMS: dict[str, frozenset[str]] = {
    "AdamW": ADAM_PARAMS,
    "Adam": ADAM_PARAMS,
    "Lamb": frozenset({"bias_correction", "eps_inside_sqrt", "max_coeff", "min_coeff"}),
    "Lion": frozenset({"set_grad_none", "fp32_optimizer_states"}),
    "Muon": frozenset({"momentum", "ns_method", "muon_lr", "adam_lr", "adam_w_mode"}),
    "Adagrad": frozenset({"lr_decay", "initial_accumulator_value", "foreach", "fp32_optimizer_states"}),
    "MuAdam": TORCH_ADAM_PARAMS,
    "MuAdamW": TORCH_ADAM_PARAMS,
    "MuSGD": frozenset({"momentum", "dampening", "nesterov", "foreach"}),
    "SGD": frozenset({"momentum", "dampening", "nesterov", "foreach"}),
    "RMSprop": frozenset({"alpha", "centered", "momentum", "foreach"}),
    "NAdam": frozenset({"momentum_decay", "decoupled_weight_decay", "foreach"}),
    "RAdam": frozenset({"decoupled_weight_decay", "foreach"}),
    "Adamax": frozenset({"foreach"}),
    "ASGD": frozenset({"lambd", "alpha", "t0", "foreach"}),
    "Rprop": frozenset({"etas", "step_sizes", "foreach"}),
    "Adadelta": frozenset({"rho", "foreach"}),
    "Adafactor": frozenset({"beta2_decay", "d", "foreach"}),
}
"""For each optimizer, the OptimizerParams that it accepts; tested against the installed classes."""
