"""The optimizer: its parameters, stage, offload and device."""

from collections.abc import Iterator

from zpipe.checks import fixes, transformers_optimizer
from zpipe.facts.facts import Facts
from zpipe.facts.implementation import UNTESTED, implementation, uses_torch_adam
from zpipe.plans.plan import Notice
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


def exactly_one_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Either DeepSpeed's or transformers' optimizer; accelerate raises for both and for neither."""
    optimizer = experiment.optimizer
    if (optimizer.type is None) == (optimizer.optim is None):
        yield Problem(
            "optimizer",
            f"type {optimizer.type or 'null'}, optim {optimizer.optim or 'null'}",
            "set exactly one of optimizer.type (DeepSpeed's) and optimizer.optim (transformers')",
            fix=either("optimizer=adamw", "optimizer=adamw_torch")
            if optimizer.type is None
            else either("optimizer.optim=null", "optimizer.type=null"),
        )


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


def optimizer_runs_on_the_device(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed has no CPU build of fused LAMB and fused Lion (deepspeed/ops/op_builder/cpu)."""
    kind = experiment.optimizer.type
    if facts.device == "cuda":
        return
    offloaded = experiment.offload.offload_optimizer.device != "none"
    if kind == "Lamb":
        yield Problem(
            "optimizer.type",
            kind,
            "DeepSpeed's LAMB needs a CUDA GPU",
            "an optimizer that runs on a CPU",
            either("optimizer=adamw"),
        )
    if kind == "Lion" and not offloaded:
        yield Problem(
            "optimizer.type",
            kind,
            "without a GPU DeepSpeed supports Lion only under offload",
            "Lion with offload=cpu_optimizer",
            either(fixes.cpu_optimizer(experiment), "optimizer=adamw"),
        )


def optimizer_can_be_offloaded(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Fused LAMB cannot update host memory."""
    optimizer = experiment.optimizer
    if experiment.offload.offload_optimizer.device == "none":
        return
    if optimizer.type == "Lamb":
        yield Problem(
            "optimizer.type",
            "Lamb",
            "DeepSpeed's LAMB is a CUDA kernel and cannot update offloaded states",
            "AdamW, Adam, Lion, Adagrad, Muon under offload",
            either("optimizer=adamw", "offload=none"),
        )


def swapped_states_need_adam(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The swapper registers the two moments of Adam (swap_tensor/partitioned_optimizer_swapper.py)."""
    kind = experiment.optimizer.type
    if experiment.offload.offload_optimizer.device == "nvme" and kind not in ("Adam", "AdamW", None):
        yield Problem(
            "optimizer.type",
            kind,
            "with states on NVMe only Adam and AdamW have been verified to train correctly",
            "AdamW, Adam",
            either("optimizer=adamw", "offload=cpu_optimizer"),
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


def mup_needs_a_prepared_model(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """mup's optimizers read `infshape` of every parameter, which set_base_shapes adds."""
    kind = experiment.optimizer.type
    if kind in ("MuAdam", "MuAdamW", "MuSGD"):
        yield Problem(
            "optimizer.type",
            kind,
            "needs a model prepared by mup.set_base_shapes, which transformers' models are not",
            "an optimizer without mup",
            either("optimizer.type=AdamW"),
        )


def muon_at_stage_3_excludes_reduce_scatter(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Muon cannot be combined with reduce-scatter (zero/stage3.py)."""
    stage = experiment.stage
    if experiment.optimizer.type == "Muon" and stage.stage == 3 and stage.reduce_scatter is not False:
        yield Problem(
            "stage.reduce_scatter",
            stage.reduce_scatter,
            "Muon needs full gradients at stage 3",
            "false with Muon at stage 3",
            either("stage.reduce_scatter=false", fixes.stage_2(experiment)),
        )


def lamb_needs_dynamic_loss_scaling(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Asserted in engine.py, _do_sanity_check."""
    scale = experiment.precision.fp16.loss_scale
    if experiment.optimizer.type == "Lamb" and scale:
        yield Problem(
            "precision.fp16.loss_scale",
            scale,
            "DeepSpeed's LAMB requires dynamic loss scaling",
            "null or 0 with LAMB",
            either("precision.fp16.loss_scale=null", "optimizer=adamw"),
        )


def untested_optimizers_are_allowed(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """ZeRO asserts that optimizers outside its list are explicitly allowed."""
    kind, allowed = experiment.optimizer.type, experiment.deepspeed.zero_allow_untested_optimizer
    if kind in UNTESTED and allowed is False and experiment.stage.stage > 0:
        key = "deepspeed.zero_allow_untested_optimizer"
        reason = f"ZeRO does not list {kind} as tested and would refuse it when the engine starts"
        yield Problem(key, False, reason, "null or true", either(f"{key}=null", "optimizer=adamw", "stage=0"))


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


FLAT = frozenset({"Lamb", "Adafactor"})


def warn_about_flat_partitions(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """ZeRO passes flat partitions to the optimizer, without layers, rows and columns."""
    optimizer = experiment.optimizer
    name = optimizer.type if optimizer.type in FLAT else optimizer.optim
    if experiment.stage.stage == 0 or name not in (*FLAT, "adafactor"):
        return
    result = (
        "one trust ratio for all layers" if name == "Lamb" else "full-size second moments, as large as Adam's"
    )
    yield Notice(
        level="warning",
        key="optimizer",
        text=f"ZeRO passes flat partitions instead of layers to {name}: {result}; stage=0 keeps layers",
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


ERRORS = (
    exactly_one_optimizer,
    params_match_the_optimizer,
    params_match_the_implementation,
    train_settings_match_the_optimizer,
    optimizer_runs_on_the_device,
    optimizer_can_be_offloaded,
    swapped_states_need_adam,
    adamw_ignores_adam_w_mode,
    mup_needs_a_prepared_model,
    muon_at_stage_3_excludes_reduce_scatter,
    lamb_needs_dynamic_loss_scaling,
    untested_optimizers_are_allowed,
    nesterov_needs_plain_momentum,
    optimizer_states_have_one_dtype,
    legacy_fusion_needs_fp16_without_zero,
    *transformers_optimizer.ERRORS,
)


def warn_about_slow_offloaded_adam(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """DeepSpeed takes PyTorch's Adam under offload without a word (runtime/engine.py)."""
    if experiment.offload.offload_optimizer.device != "none" and uses_torch_adam(experiment, facts):
        text = "PyTorch's Adam is several times slower for offloaded states than DeepSpeed's CPU Adam"
        yield Notice(level="warning", key="optimizer.params.torch_adam", text=text)


NOTICES = (warn_about_flat_partitions, warn_about_slow_offloaded_adam)
