"""transformers' optimizers: their arguments, and offload.

Upstream: transformers/trainer_optimizer.py.
"""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.schema.optimizer import OPTIM_ARGS, ArgKind

KEY = "optimizer.optim_args"


def optim_args_need_a_transformers_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """TrainingArguments.optim_args is only passed to transformers' optimizers."""
    optimizer = experiment.optimizer
    if optimizer.optim_args is not None and optimizer.optim is None:
        reason = f"only used by transformers' optimizers, but {optimizer.type} is DeepSpeed's"
        yield Problem(KEY, optimizer.optim_args, reason, "null", either(f"{KEY}=null"), ignored=True)


def optim_args_match_the_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A name that the optimizer does not read is ignored; text that is not `name=value` raises."""
    optimizer = experiment.optimizer
    if not optimizer.optim_args or optimizer.optim is None:
        return
    known = OPTIM_ARGS.get(optimizer.optim, {})
    for mapping in optimizer.optim_args.replace(" ", "").split(","):
        reason = _why_not(mapping, optimizer.optim, known)
        if reason:
            allowed = ", ".join(f"{name} ({KINDS[kind]})" for name, kind in known.items()) or "null"
            yield Problem(KEY, optimizer.optim_args, reason, allowed, either(f"{KEY}=null"))


KINDS: dict[ArgKind, str] = {"number": "a number", "boolean": "true or false", "true": "true"}


def _why_not(mapping: str, optim: str, known: dict[str, ArgKind]) -> str:
    name, equals, value = mapping.partition("=")
    if not equals or "=" in value:
        return f"{mapping!r} is not name=value"
    if name == "weight_decay":
        return "train.weight_decay overrides weight_decay"
    if name not in known:
        return f"{optim} has no argument {name}"
    return "" if _is_of(known[name], value) else f"{name} must be {KINDS[known[name]]}, not {value}"


def _is_of(kind: ArgKind, value: str) -> bool:
    if kind != "number":
        return value.lower() == "true" or (kind == "boolean" and value.lower() == "false")
    try:
        float(value)
    except ValueError:
        return False
    return True


def transformers_optimizers_are_not_offloaded(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """accelerate silently replaces transformers' optimizers with DeepSpeed's CPU Adam
    (accelerate/utils/deepspeed.py, map_pytorch_optim_to_deepspeed)."""
    optimizer = experiment.optimizer
    forced = experiment.deepspeed.zero_force_ds_cpu_optimizer
    offloaded = experiment.offload.offload_optimizer.device != "none"
    if offloaded and optimizer.optim is not None and forced is not False:
        yield Problem(
            "optimizer.optim",
            optimizer.optim,
            "under offload accelerate silently replaces it with DeepSpeed's CPU Adam",
            "DeepSpeed's optimizers under offload",
            either("optimizer=adamw", "offload=none", "deepspeed.zero_force_ds_cpu_optimizer=false"),
        )


def forced_cpu_optimizer_needs_offload(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed reads zero_force_ds_cpu_optimizer only for optimizers that it is given, under offload."""
    forced = experiment.deepspeed.zero_force_ds_cpu_optimizer
    offloaded = experiment.offload.offload_optimizer.device != "none"
    if forced is not None and not (offloaded and experiment.optimizer.optim is not None):
        key = "deepspeed.zero_force_ds_cpu_optimizer"
        reason = "only used under offload with one of transformers' optimizers"
        yield Problem(key, forced, reason, "null", either(f"{key}=null"), ignored=True)


def swapped_transformers_optimizer_is_adamw(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The swapper registers the two moments of Adam (swap_tensor/partitioned_optimizer_swapper.py)."""
    optim = experiment.optimizer.optim
    if experiment.offload.offload_optimizer.device != "nvme" or optim is None:
        return
    if optim not in ("adamw_torch", "adamw_torch_fused"):
        back = "deepspeed.zero_force_ds_cpu_optimizer=null"
        yield Problem(
            "optimizer.optim",
            optim,
            "with states on NVMe only Adam and AdamW have been verified to train correctly",
            "adamw_torch, adamw_torch_fused",
            either(f"optimizer=adamw {back}", "optimizer=adamw_torch"),
        )


ERRORS = (
    optim_args_need_a_transformers_optimizer,
    optim_args_match_the_optimizer,
    transformers_optimizers_are_not_offloaded,
    forced_cpu_optimizer_needs_offload,
    swapped_transformers_optimizer_is_adamw,
)
