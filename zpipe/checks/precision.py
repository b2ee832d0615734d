"""Number formats against the device, the stage and each other."""

from collections.abc import Iterator

from zpipe.facts.facts import BF16_CAPABILITY, Facts
from zpipe.facts.implementation import runs_bf16_optimizer
from zpipe.plan.plan import Notice
from zpipe.problems import Problem
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment

DYNAMIC_SCALE_KEYS = (
    "initial_scale_power",
    "loss_scale_window",
    "hysteresis",
    "consecutive_hysteresis",
    "min_loss_scale",
)


def settings_belong_to_the_format(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The fp16 block acts under fp16 alone, the bf16 block under bf16 alone."""
    precision = experiment.precision
    for format_, block in (("fp16", precision.fp16), ("bf16", precision.bf16)):
        if facts.dtype != format_:
            yield from _settings_of_another_format(format_, block, facts.dtype)


def _settings_of_another_format(format_: str, block: Group, dtype: str) -> Iterator[Problem]:
    for name, value in block.model_dump(exclude_none=True).items():
        key = f"precision.{format_}.{name}"
        yield Problem(
            key,
            value,
            f"acts under {format_} alone, and the precision is {dtype}",
            "null",
            f"precision={format_}, or {key}=null",
        )


def fixed_scale_has_no_dynamics(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A loss_scale above 0 is fixed: the keys of the dynamic scale would be ignored."""
    fp16 = experiment.precision.fp16
    if not fp16.loss_scale:
        return
    for name in DYNAMIC_SCALE_KEYS:
        value = getattr(fp16, name)
        if value is not None:
            yield Problem(
                f"precision.fp16.{name}",
                value,
                f"precision.fp16.loss_scale={fp16.loss_scale} fixes the scale",
                "null with a fixed scale",
                f"precision.fp16.loss_scale=0, or precision.fp16.{name}=null",
            )


def device_has_the_format(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """TF32 and bf16 need NVIDIA's Ampere generation; a CPU has no TF32."""
    if facts.dtype == "tf32" and facts.device == "cpu":
        yield Problem("precision", "tf32", "needs a CUDA GPU", "fp32, bf16 on a CPU", "precision=fp32")
    if facts.device != "cuda" or facts.dtype not in ("tf32", "bf16"):
        return
    for gpu in facts.hardware.gpus:
        if gpu.compute_capability < BF16_CAPABILITY:
            yield Problem("precision", facts.dtype, f"{gpu.name} lacks it", "fp32, fp16", "precision=fp16")
            return


def stage_0_cannot_accumulate_in_fp32_under_bf16(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The engine has no bf16 optimizer with fp32 accumulation without ZeRO."""
    accumulate = experiment.precision.data_types.grad_accum_dtype
    if experiment.stage.stage == 0 and facts.dtype == "bf16" and accumulate == "fp32":
        yield Problem(
            "precision.data_types.grad_accum_dtype",
            accumulate,
            "DeepSpeed does not support it at stage 0 under bf16",
            "null or bf16 at stage 0",
            "stage=1, or precision.data_types.grad_accum_dtype=null",
        )


def stage_0_does_not_scale_the_loss(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """engine.backward scales the loss for ZeRO's optimizers only, and the other one divides by the scale."""
    if experiment.stage.stage == 0 and facts.dtype == "fp16":
        yield Problem(
            "precision",
            "fp16",
            "at stage 0 DeepSpeed divides fp16 gradients by a loss scale that it never applied",
            "fp32, bf16 at stage 0; fp16 at stages 1 to 3",
            "stage=1, or precision=bf16",
        )


def parameters_have_the_training_format(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """engine.py asserts that param_dtype is what fp16.enabled and bf16.enabled say."""
    asked = experiment.precision.data_types.param_dtype
    actual = facts.parameter_dtype
    if asked is not None and asked != actual:
        key = "precision.data_types.param_dtype"
        reason = f"parameters are in {actual} under precision={facts.dtype}"
        yield Problem(key, asked, reason, f"null or {actual}", f"{key}=null, or precision={asked} {key}=null")


def gradients_accumulate_in_a_supported_format(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The engine knows the training format and fp32; without ZeRO the training format alone (engine.py)."""
    asked = experiment.precision.data_types.grad_accum_dtype
    actual = facts.parameter_dtype
    if asked is not None and asked not in ("fp32", actual):
        key = "precision.data_types.grad_accum_dtype"
        yield Problem(key, asked, f"gradients are in {actual}", f"null, fp32 or {actual}", f"{key}=null")


def low_precision_masters_need_cpu_adam(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Asserted in zero/stage_1_and_2.py and zero/stage3.py, but where the states are bf16 as well."""
    precision, offload = experiment.precision, experiment.offload.offload_optimizer.device
    for format_, block in (("fp16", precision.fp16), ("bf16", precision.bf16)):
        name = f"{format_}_master_weights_and_grads"
        if not getattr(block, name) or (format_ == "bf16" and precision.bf16.bf16_optimizer_states):
            continue
        if (
            experiment.stage.stage == 0
            or offload == "none"
            or experiment.optimizer.type not in ("Adam", "AdamW")
        ):
            key = f"precision.{format_}.{name}"
            reason = "DeepSpeed offers it with CPU Adam under offload only"
            fix = f"offload=cpu_optimizer optimizer=adamw, or {key}=null"
            yield Problem(key, True, reason, "null without offload", fix)


def bf16_states_need_bf16_masters(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """bf16_optimizer_states requires bf16_master_weights_and_grads (runtime/config.py)."""
    block = experiment.precision.bf16
    if block.bf16_optimizer_states and not block.bf16_master_weights_and_grads:
        key = "precision.bf16.bf16_optimizer_states"
        fix = f"precision.bf16.bf16_master_weights_and_grads=true, or {key}=null"
        yield Problem(key, True, "requires bf16_master_weights_and_grads", "null without it", fix)


def bf16_masters_need_a_zero_stage(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """bf16_optimizer_states is only supported with ZeRO (runtime/config.py)."""
    if experiment.precision.bf16.bf16_optimizer_states and experiment.stage.stage == 0:
        key = "precision.bf16.bf16_optimizer_states"
        fix = f"stage=2, or {key}=null precision.bf16.bf16_master_weights_and_grads=null"
        yield Problem(key, True, "acts at stages 1 to 3", "null at stage 0", fix)


def stage_3_checks_gradients_anyway(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """check_grad_overflow acts at stages 1 and 2: in runs at stage 3 steps were skipped all the same."""
    check = experiment.precision.bf16.check_grad_overflow
    anyway = experiment.stage.stage in (0, 3) or runs_bf16_optimizer(experiment, facts.dtype)
    if check is False and anyway:
        key = "precision.bf16.check_grad_overflow"
        with_ = "" if experiment.stage.stage != 1 else " with fp32 accumulation"
        reason = f"has no effect at stage {experiment.stage.stage}{with_}: DeepSpeed checks gradients anyway"
        yield Problem(key, False, reason, "null", f"{key}=null, or stage=2")


def immediate_update_has_its_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Read by BF16_Optimizer alone: stage 1, fp32 accumulation, no offload (engine.py)."""
    value = experiment.precision.bf16.immediate_grad_update
    if value is not None and not runs_bf16_optimizer(experiment, facts.dtype):
        key = "precision.bf16.immediate_grad_update"
        reason = "acts at stage 1 with fp32 accumulation only"
        fix = f"{key}=null, or stage=1 precision.data_types.grad_accum_dtype=fp32 offload=none"
        yield Problem(key, value, reason, "null", fix)


def one_mixed_precision(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Under torch.autocast parameters stay in fp32, and fp16 or bf16 would have cast them before."""
    if experiment.precision.torch_autocast.enabled and facts.dtype in ("fp16", "bf16"):
        key = "precision.torch_autocast.enabled"
        reason = f"precision={facts.dtype} has cast the model already"
        yield Problem(key, True, reason, "true with precision=fp32 or tf32", f"precision=fp32, or {key}=null")


def autocast_keys_act(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of an autocast that is off; one that is on must say its format."""
    block = experiment.precision.torch_autocast
    if block.enabled and block.dtype is None:
        key = "precision.torch_autocast.dtype"
        yield Problem(key, None, "torch.autocast needs a format", "bfloat16, float16", f"{key}=bfloat16")
    if not block.enabled:
        for name, value in block.model_dump(exclude_none=True, exclude={"enabled"}).items():
            key = f"precision.torch_autocast.{name}"
            reason = "acts with precision.torch_autocast.enabled=true only"
            on = "precision.torch_autocast.enabled=true precision.torch_autocast.dtype=bfloat16"
            fix = f"{key}=null, or precision=fp32 {on}"
            yield Problem(key, value, reason, "null", fix)


def warn_of_unchecked_gradients(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """What protects a run against gradients that are not finite, and where nothing does."""
    if facts.dtype == "bf16" and experiment.precision.bf16.check_grad_overflow is False:
        yield Notice(
            level="warning",
            key="precision.bf16.check_grad_overflow",
            text="gradients that are not finite will be applied to the weights",
        )


def advise_fp32_accumulation(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """bf16 keeps 8 bits of a sum; many micro-batches lose the small ones."""
    accumulation = facts.accumulation
    chosen = experiment.precision.data_types.grad_accum_dtype
    key = "precision.data_types.grad_accum_dtype"
    if facts.dtype == "bf16" and accumulation >= 8 and chosen is None and experiment.stage.stage > 0:
        yield Notice(
            level="advice",
            key=key,
            text=f"{accumulation} micro-batches are summed in bf16; {key}=fp32 is exact",
        )


BF16_TRAINED = frozenset({"t5", "mt5", "umt5", "longt5", "gemma", "gemma2", "gemma3", "gemma3_text"})
"""Families whose activations leave the range of fp16."""


def warn_of_bf16_models_under_fp16(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """The guide's first cause of NaN losses: weights trained in bf16, used in fp16."""
    config = facts.model.config
    saved_in = str(config.get("dtype") or config.get("torch_dtype") or "")
    is_bf16 = saved_in.endswith("bfloat16") or config.get("model_type") in BF16_TRAINED
    if facts.dtype == "fp16" and is_bf16 and not facts.model.random_init:
        yield Notice(
            level="warning",
            key="precision",
            text="this model was trained in bf16, whose range fp16 lacks: expect NaN; try precision=bf16",
        )


ERRORS = (
    settings_belong_to_the_format,
    fixed_scale_has_no_dynamics,
    device_has_the_format,
    stage_0_cannot_accumulate_in_fp32_under_bf16,
    stage_0_does_not_scale_the_loss,
    parameters_have_the_training_format,
    gradients_accumulate_in_a_supported_format,
    low_precision_masters_need_cpu_adam,
    bf16_states_need_bf16_masters,
    bf16_masters_need_a_zero_stage,
    stage_3_checks_gradients_anyway,
    immediate_update_has_its_optimizer,
    one_mixed_precision,
    autocast_keys_act,
)
NOTICES = (warn_of_unchecked_gradients, advise_fp32_accumulation, warn_of_bf16_models_under_fp16)
