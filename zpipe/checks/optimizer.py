"""The optimizer with the rest of the run: stage, offload, device and precision."""

from collections.abc import Iterator

from zpipe.checks import fixes, optimizer_params, transformers_optimizer
from zpipe.facts.facts import Facts
from zpipe.facts.implementation import UNTESTED, uses_torch_adam
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment

FLAT = frozenset({"Lamb", "Adafactor"})


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


def warn_about_slow_offloaded_adam(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """DeepSpeed takes PyTorch's Adam under offload without a word (runtime/engine.py)."""
    if experiment.offload.offload_optimizer.device != "none" and uses_torch_adam(experiment, facts):
        text = "PyTorch's Adam is several times slower for offloaded states than DeepSpeed's CPU Adam"
        yield Notice(level="warning", key="optimizer.params.torch_adam", text=text)


ERRORS = (
    exactly_one_optimizer,
    *optimizer_params.ERRORS,
    optimizer_runs_on_the_device,
    optimizer_can_be_offloaded,
    swapped_states_need_adam,
    mup_needs_a_prepared_model,
    muon_at_stage_3_excludes_reduce_scatter,
    lamb_needs_dynamic_loss_scaling,
    untested_optimizers_are_allowed,
    *transformers_optimizer.ERRORS,
)
NOTICES = (warn_about_flat_partitions, warn_about_slow_offloaded_adam)
