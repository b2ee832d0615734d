"""Settings of the optimizer that it would refuse or ignore."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.facts.implementation import implementation
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.schema.optimizer import OWN_PARAMS, shared_params_of
from zpipe.schema.train import Train

TRAIN_KEYS = {
    "betas": ("adam_beta1", "adam_beta2"),
    "eps": ("adam_epsilon",),
    "weight_decay": ("weight_decay",),
}
"""Keys under `train` that become parameters of the optimizer."""

NEEDS = {
    "amsgrad": ("torch",),
    "foreach": ("torch",),
    "lr_decay": ("torch",),
    "initial_accumulator_value": ("torch",),
    "bias_correction": ("fused", "host"),
    "set_grad_none": ("fused",),
    "fp32_optimizer_states": ("host",),
}
"""Parameters that only some implementations accept: PyTorch's, DeepSpeed's fused one, DeepSpeed's CPU one."""


def params_match_the_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed passes params on unchanged: an unknown one raises a TypeError when the engine starts."""
    optimizer = experiment.optimizer
    allowed = OWN_PARAMS[optimizer.type] if optimizer.type is not None else frozenset()
    for name, value in optimizer.params.given().items():
        if name in allowed:
            continue
        key = f"optimizer.params.{name}"
        owners = [kind for kind, names in OWN_PARAMS.items() if name in names]
        yield Problem(
            key,
            value,
            f"{optimizer.type or optimizer.optim} has no such parameter",
            f"null; accepted by {', '.join(owners)}",
            either(f"{key}=null"),
        )


def params_match_the_implementation(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """An optimizer has several implementations: a parameter of another one raises or is ignored."""
    optimizer = experiment.optimizer
    if optimizer.type is None:
        return
    actual = implementation(experiment, facts)
    for name, value in optimizer.params.given().items():
        if name in OWN_PARAMS[optimizer.type] and actual not in NEEDS.get(name, (actual,)):
            key = f"optimizer.params.{name}"
            classes = {"torch": "PyTorch's", "fused": "DeepSpeed's fused", "host": "DeepSpeed's CPU"}
            needed = " or ".join(classes[each] for each in NEEDS[name])
            yield Problem(
                key,
                value,
                f"not accepted by {classes[actual]} {optimizer.type}, which this run would use",
                f"null; only {needed} implementation accepts it",
                either(f"{key}=null"),
            )


def train_settings_match_the_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings that the optimizer does not use, such as betas for SGD, would be ignored."""
    optimizer, train = experiment.optimizer, experiment.train
    kind = optimizer.type or optimizer.optim
    used = shared_params_of(optimizer)
    for param, names in TRAIN_KEYS.items():
        for name in names if param not in used else ():
            value, default = getattr(train, name), Train.model_fields[name].default
            if value != default:
                yield Problem(
                    f"train.{name}",
                    value,
                    f"{kind} does not use {param}",
                    str(default),
                    either(f"train.{name}={default}"),
                    ignored=True,
                )


def adamw_ignores_adam_w_mode(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed does not read adam_w_mode for AdamW (engine.py, _configure_basic_optimizer)."""
    optimizer = experiment.optimizer
    if optimizer.type == "AdamW" and optimizer.params.adam_w_mode is False:
        key = "optimizer.params.adam_w_mode"
        reason = "ignored, because DeepSpeed's AdamW always uses decoupled weight decay"
        yield Problem(
            key,
            False,
            reason,
            "null or true; Adam accepts false",
            either(f"{key}=null", "optimizer=adam"),
            ignored=True,
        )


def nesterov_needs_plain_momentum(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """torch.optim.SGD raises a ValueError when the engine starts."""
    params, key = experiment.optimizer.params, "optimizer.params.nesterov"
    if experiment.optimizer.type != "SGD" or not params.nesterov:
        return
    if not params.momentum:
        fix = either(f"{key}=null", "optimizer.params.momentum=0.9")
        yield Problem(key, True, "needs momentum", "true with optimizer.params.momentum above 0", fix)
    if params.dampening:
        fix = either(f"{key}=null", "optimizer.params.dampening=null")
        yield Problem(key, True, "excludes dampening", "true without optimizer.params.dampening", fix)


def optimizer_states_have_one_dtype(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """bf16_optimizer_states overrides fp32_optimizer_states, which DeepSpeed only logs (engine.py)."""
    if experiment.precision.bf16.bf16_optimizer_states and experiment.optimizer.params.fp32_optimizer_states:
        key = "optimizer.params.fp32_optimizer_states"
        reason = "overridden by precision.bf16.bf16_optimizer_states=true"
        yield Problem(
            key,
            True,
            reason,
            "null",
            either(f"{key}=null", "precision.bf16.bf16_optimizer_states=null"),
            ignored=True,
        )


def legacy_fusion_needs_fp16_without_zero(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Only FP16_Optimizer reads it, which runs at stage 0."""
    fusion = experiment.optimizer.legacy_fusion
    if fusion is not None:
        key = "optimizer.legacy_fusion"
        reason = "only used by DeepSpeed's fp16 optimizer at stage 0, where fp16 does not train correctly"
        yield Problem(key, fusion, reason, "null", either(f"{key}=null"), ignored=True)


ERRORS = (
    params_match_the_optimizer,
    params_match_the_implementation,
    train_settings_match_the_optimizer,
    adamw_ignores_adam_w_mode,
    nesterov_needs_plain_momentum,
    optimizer_states_have_one_dtype,
    legacy_fusion_needs_fp16_without_zero,
)
