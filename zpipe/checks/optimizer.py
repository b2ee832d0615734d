"""The optimizer against its parameters, the stage, offload and the device."""

from collections.abc import Iterator

from zpipe.checks import transformers_optimizer
from zpipe.facts.facts import Facts
from zpipe.facts.implementation import UNTESTED, implementation, uses_torch_adam
from zpipe.plan.plan import Notice
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment
from zpipe.schema.optimizer import OWN_PARAMS, shared_params_of
from zpipe.schema.train import Train

TRAIN_KEYS = {
    "betas": ("adam_beta1", "adam_beta2"),
    "eps": ("adam_epsilon",),
    "weight_decay": ("weight_decay",),
}
"""Keys under `train.` that become parameters of the optimizer."""

NEEDS = {
    "amsgrad": ("torch",),
    "foreach": ("torch",),
    "lr_decay": ("torch",),
    "initial_accumulator_value": ("torch",),
    "bias_correction": ("fused", "host"),
    "set_grad_none": ("fused",),
    "fp32_optimizer_states": ("host",),
}
"""Parameters that only some implementations take: PyTorch's, DeepSpeed's fused one, its host one."""


def exactly_one_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Either DeepSpeed's or transformers'; both or none raises inside accelerate."""
    optimizer = experiment.optimizer
    if (optimizer.type is None) == (optimizer.optim is None):
        yield Problem(
            "optimizer",
            f"type {optimizer.type}, optim {optimizer.optim}",
            "exactly one of optimizer.type (DeepSpeed's) and optimizer.optim (transformers') is needed",
            fix="optimizer=adamw, or optimizer=adamw_torch"
            if optimizer.type is None
            else "optimizer.optim=null, or optimizer.type=null",
        )


def params_belong_to_the_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed hands params on as they are: a foreign one is a TypeError at engine start."""
    optimizer = experiment.optimizer
    allowed = OWN_PARAMS[optimizer.type] if optimizer.type is not None else frozenset()
    for name, value in optimizer.params.model_dump(exclude_none=True).items():
        if name in allowed:
            continue
        key = f"optimizer.params.{name}"
        takers = [kind for kind, names in OWN_PARAMS.items() if name in names]
        yield Problem(
            key,
            value,
            f"{optimizer.type or optimizer.optim} has no such parameter",
            f"null; it belongs to {', '.join(takers)}",
            f"{key}=null",
        )


def params_belong_to_the_implementation(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """One name, several classes: what the class that will run doesn't take raises, or is ignored."""
    optimizer = experiment.optimizer
    if optimizer.type is None:
        return
    actual = implementation(experiment, facts)
    for name, value in optimizer.params.model_dump(exclude_none=True).items():
        if name in OWN_PARAMS[optimizer.type] and actual not in NEEDS.get(name, (actual,)):
            key = f"optimizer.params.{name}"
            classes = {"torch": "PyTorch's", "fused": "DeepSpeed's fused", "host": "DeepSpeed's host"}
            wanted = " or ".join(classes[each] for each in NEEDS[name])
            yield Problem(
                key,
                value,
                f"{classes[actual]} {optimizer.type} will run, which does not take it",
                f"null; {wanted} implementation takes it",
                f"{key}=null",
            )


def shared_params_reach_the_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Betas for SGD, epsilon for Lion: they go nowhere, but not in silence."""
    optimizer, train = experiment.optimizer, experiment.train
    kind = optimizer.type or optimizer.optim
    taken = shared_params_of(optimizer)
    for param, names in TRAIN_KEYS.items():
        for name in names if param not in taken else ():
            value, default = getattr(train, name), Train.model_fields[name].default
            if value != default:
                yield Problem(
                    f"train.{name}",
                    value,
                    f"{kind} takes no {param}",
                    str(default),
                    f"train.{name}={default}",
                )


def optimizer_runs_on_the_device(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed has no CPU build of fused LAMB and fused Lion (deepspeed/ops/op_builder/cpu)."""
    kind = experiment.optimizer.type
    if facts.device == "cuda":
        return
    offloaded = experiment.offload.offload_optimizer.device != "none"
    if kind == "Lamb":
        yield Problem(
            "optimizer.type", kind, "DeepSpeed's LAMB needs a CUDA GPU", "another", "optimizer=adamw"
        )
    if kind == "Lion" and not offloaded:
        yield Problem(
            "optimizer.type",
            kind,
            "without a GPU DeepSpeed has Lion under offload only",
            "Lion with offload=cpu_optimizer",
            "offload=cpu_optimizer, or optimizer=adamw",
        )


def optimizer_can_be_offloaded(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Fused LAMB cannot update host memory, and PyTorch's Adam is slow at it."""
    optimizer = experiment.optimizer
    if experiment.offload.offload_optimizer.device == "none":
        return
    if optimizer.type == "Lamb":
        yield Problem(
            "optimizer.type",
            "Lamb",
            "DeepSpeed's LAMB is a CUDA kernel and cannot update offloaded states",
            "AdamW, Adam, Lion, Adagrad, Muon under offload",
            "optimizer=adamw, or offload=none",
        )
    if uses_torch_adam(experiment, facts):
        yield Problem(
            "optimizer.params.torch_adam",
            True,
            "PyTorch's Adam cannot update offloaded states at speed; DeepSpeed's CPU Adam does",
            "null or false under offload",
            "optimizer.params.torch_adam=null, or offload=none",
        )


def swapped_states_are_adams(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The swapper registers the two moments of Adam (swap_tensor/partitioned_optimizer_swapper.py)."""
    kind = experiment.optimizer.type
    if experiment.offload.offload_optimizer.device == "nvme" and kind not in ("Adam", "AdamW", None):
        yield Problem(
            "optimizer.type",
            kind,
            "with states on nvme zpipe has only seen Adam and AdamW train rightly",
            "AdamW, Adam",
            "optimizer=adamw, or offload=cpu_optimizer",
        )


def adamw_decays_apart(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """For type AdamW DeepSpeed does not look at adam_w_mode (engine.py, _configure_basic_optimizer)."""
    optimizer = experiment.optimizer
    if optimizer.type == "AdamW" and optimizer.params.adam_w_mode is False:
        key = "optimizer.params.adam_w_mode"
        reason = "DeepSpeed's AdamW decays the weights apart from the gradient whatever it says"
        yield Problem(key, False, reason, "null or true; Adam takes false", f"{key}=null, or optimizer=adam")


def mup_needs_a_model_made_for_it(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """mup's optimizers read `infshape` of every parameter, which set_base_shapes leaves there."""
    kind = experiment.optimizer.type
    if kind in ("MuAdam", "MuAdamW", "MuSGD"):
        yield Problem(
            "optimizer.type",
            kind,
            "it needs a model prepared by mup.set_base_shapes, which transformers' models are not",
            "an optimizer without mup",
            "optimizer.type=AdamW",
        )


def muon_at_stage_3_reduces_whole_gradients(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Muon and reduce scatter cannot be used together (zero/stage3.py)."""
    stage = experiment.stage
    if experiment.optimizer.type == "Muon" and stage.stage == 3 and stage.reduce_scatter is not False:
        yield Problem(
            "stage.reduce_scatter",
            stage.reduce_scatter,
            "at stage 3 Muon needs whole gradients",
            "false with Muon at stage 3",
            "stage.reduce_scatter=false, or stage=2",
        )


def lamb_scales_dynamically(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed Lamb optimizer requires dynamic loss scaling (engine.py, _do_sanity_check)."""
    scale = experiment.precision.fp16.loss_scale
    if experiment.optimizer.type == "Lamb" and scale:
        yield Problem(
            "precision.fp16.loss_scale",
            scale,
            "DeepSpeed's LAMB requires dynamic loss scaling",
            "null or 0 with LAMB",
            "precision.fp16.loss_scale=null, or optimizer=adamw",
        )


def untested_optimizers_are_allowed(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """ZeRO asserts that optimizers outside its list are explicitly allowed."""
    kind, allowed = experiment.optimizer.type, experiment.deepspeed.zero_allow_untested_optimizer
    if kind in UNTESTED and allowed is False and experiment.stage.stage > 0:
        key = "deepspeed.zero_allow_untested_optimizer"
        reason = f"ZeRO does not list {kind} and would refuse it at engine start"
        yield Problem(key, False, reason, "null or true", f"{key}=null, or optimizer=adamw, or stage=0")


def moments_have_one_format(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """bf16_optimizer_states overrides fp32_optimizer_states with a log line (engine.py)."""
    if experiment.precision.bf16.bf16_optimizer_states and experiment.optimizer.params.fp32_optimizer_states:
        key = "optimizer.params.fp32_optimizer_states"
        reason = "precision.bf16.bf16_optimizer_states=true overrides it"
        yield Problem(key, True, reason, "null", f"{key}=null, or precision.bf16.bf16_optimizer_states=null")


def legacy_fusion_is_for_fp16_without_zero(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Read by FP16_Optimizer alone, which runs at stage 0."""
    fusion = experiment.optimizer.legacy_fusion
    if fusion is not None:
        key = "optimizer.legacy_fusion"
        reason = "acts in DeepSpeed's fp16 optimizer without ZeRO only, where fp16 does not train (stage 0)"
        yield Problem(key, fusion, reason, "null", f"{key}=null")


FLAT = frozenset({"Lamb", "Adafactor"})


def warn_of_flat_partitions(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """ZeRO hands the optimizer flat pieces that know nothing of layers, rows and columns."""
    optimizer = experiment.optimizer
    name = optimizer.type if optimizer.type in FLAT else optimizer.optim
    if experiment.stage.stage == 0 or name not in (*FLAT, "adafactor"):
        return
    lost = "one trust ratio for all layers" if name == "Lamb" else "full second moments, as large as Adam's"
    yield Notice(
        level="warning",
        key="optimizer",
        text=f"ZeRO gives {name} flat partitions, not layers: {lost}; stage=0 keeps layers",
    )


ERRORS = (
    exactly_one_optimizer,
    params_belong_to_the_optimizer,
    params_belong_to_the_implementation,
    shared_params_reach_the_optimizer,
    optimizer_runs_on_the_device,
    optimizer_can_be_offloaded,
    swapped_states_are_adams,
    adamw_decays_apart,
    mup_needs_a_model_made_for_it,
    muon_at_stage_3_reduces_whole_gradients,
    lamb_scales_dynamically,
    untested_optimizers_are_allowed,
    moments_have_one_format,
    legacy_fusion_is_for_fp16_without_zero,
    *transformers_optimizer.ERRORS,
)
NOTICES = (warn_of_flat_partitions,)
