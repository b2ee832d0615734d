"""Precision: dtypes that the device, the stage or other settings do not support."""

from collections.abc import Iterator

from zpipe.checks import fixes
from zpipe.facts.facts import BF16_CAPABILITY, Facts
from zpipe.facts.implementation import runs_bf16_optimizer
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment

DYNAMIC_SCALE_KEYS = (
    "initial_scale_power",
    "loss_scale_window",
    "hysteresis",
    "consecutive_hysteresis",
    "min_loss_scale",
)


def settings_match_the_dtype(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The fp16 block is only used with fp16, the bf16 block only with bf16."""
    for dtype in ("fp16", "bf16"):
        block: Group = getattr(experiment.precision, dtype)
        for name, value in block.given().items() if facts.dtype != dtype else ():
            key = f"precision.{dtype}.{name}"
            reason = f"only used with precision={dtype}, but the precision is {facts.dtype}"
            fix = either(*fixes.precisions(experiment, facts, dtype), f"{key}=null")
            yield Problem(key, value, reason, "null", fix, ignored=True)


def fixed_loss_scale_excludes_dynamic_settings(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """With a fixed loss scale, settings of the dynamic scale would be ignored."""
    fp16 = experiment.precision.fp16
    if not fp16.loss_scale:
        return
    for name in DYNAMIC_SCALE_KEYS:
        value = getattr(fp16, name)
        if value is not None:
            yield Problem(
                f"precision.fp16.{name}",
                value,
                f"ignored, because precision.fp16.loss_scale={fp16.loss_scale:g} fixes the scale",
                "null with a fixed scale",
                either("precision.fp16.loss_scale=0", f"precision.fp16.{name}=null"),
                ignored=True,
            )


def device_supports_the_dtype(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """TF32 and bf16 need an NVIDIA Ampere GPU or later; CPUs do not support TF32."""
    if facts.dtype == "tf32" and facts.device == "cpu":
        yield Problem(
            "precision", "tf32", "needs a CUDA GPU", "fp32, bf16 on a CPU", either("precision=fp32")
        )
    if facts.device != "cuda" or facts.dtype not in ("tf32", "bf16"):
        return
    for gpu in facts.hardware.gpus:
        if gpu.compute_capability < BF16_CAPABILITY:
            yield Problem(
                "precision",
                facts.dtype,
                f"{gpu.name} does not support it",
                "fp32, fp16",
                either(fixes.precision(experiment, "fp16")),
            )
            return


def fp32_accumulation_needs_a_zero_stage(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without ZeRO the engine has no bf16 optimizer that accumulates in fp32."""
    accumulate = experiment.precision.data_types.grad_accum_dtype
    if experiment.stage.stage == 0 and facts.dtype == "bf16" and accumulate == "fp32":
        yield Problem(
            "precision.data_types.grad_accum_dtype",
            accumulate,
            "DeepSpeed does not support fp32 accumulation with bf16 at stage 0",
            "null or bf16 at stage 0",
            either("stage=1", "precision.data_types.grad_accum_dtype=null"),
        )


def fp16_needs_a_zero_stage(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """engine.backward scales the loss only for ZeRO's optimizers, but the fp16 optimizer divides by it."""
    if experiment.stage.stage == 0 and facts.dtype == "fp16":
        other = "bf16" if fixes.supports_bf16(facts) else "fp32"
        at_stage_0 = "fp32, bf16" if other == "bf16" else "fp32"
        yield Problem(
            "precision",
            "fp16",
            "at stage 0 DeepSpeed divides fp16 gradients by a loss scale that it never applied",
            f"{at_stage_0} at stage 0; fp16 at stages 1 to 3",
            either("stage=1", f"precision={other}"),
        )


def param_dtype_matches_the_precision(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """engine.py asserts that param_dtype matches fp16.enabled and bf16.enabled."""
    asked = experiment.precision.data_types.param_dtype
    actual = facts.parameter_dtype
    if asked is not None and asked != actual:
        key = "precision.data_types.param_dtype"
        reason = f"parameters are {actual} with precision={facts.dtype}"
        others = (f"{each} {key}=null" for each in fixes.precisions(experiment, facts, asked))
        fix = either(f"{key}=null", *others)
        yield Problem(key, asked, reason, f"null or {actual}", fix)


def grad_accum_dtype_is_supported(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The engine supports the training dtype and fp32; without ZeRO only the training dtype (engine.py)."""
    asked = experiment.precision.data_types.grad_accum_dtype
    actual = facts.parameter_dtype
    supported = ["fp32"] if actual == "fp32" else ["fp32", actual]
    if asked is not None and asked not in supported:
        key = "precision.data_types.grad_accum_dtype"
        reason = f"DeepSpeed accumulates {actual} gradients only in {' or '.join(supported)}"
        yield Problem(key, asked, reason, ", ".join(["null", *supported]), either(f"{key}=null"))


def low_precision_masters_need_cpu_adam(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Asserted in zero/stage_1_and_2.py and zero/stage3.py, unless the states are bf16 as well."""
    precision, offload = experiment.precision, experiment.offload.offload_optimizer.device
    for dtype, block in (("fp16", precision.fp16), ("bf16", precision.bf16)):
        name = f"{dtype}_master_weights_and_grads"
        if not getattr(block, name) or (dtype == "bf16" and precision.bf16.bf16_optimizer_states):
            continue
        if (
            experiment.stage.stage == 0
            or offload == "none"
            or experiment.optimizer.type not in ("Adam", "AdamW")
        ):
            key = f"precision.{dtype}.{name}"
            reason = "DeepSpeed supports it only with CPU Adam under offload"
            fix = either(f"{fixes.cpu_optimizer(experiment)} optimizer=adamw", f"{key}=null")
            yield Problem(key, True, reason, "null without offload", fix)


def bf16_states_need_bf16_masters(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Asserted in runtime/config.py."""
    block = experiment.precision.bf16
    if block.bf16_optimizer_states and not block.bf16_master_weights_and_grads:
        key = "precision.bf16.bf16_optimizer_states"
        fix = either("precision.bf16.bf16_master_weights_and_grads=true", f"{key}=null")
        reason = "requires precision.bf16.bf16_master_weights_and_grads=true"
        yield Problem(key, True, reason, "null without it", fix)


def bf16_states_need_a_zero_stage(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed supports bf16_optimizer_states only with ZeRO (runtime/config.py)."""
    if experiment.precision.bf16.bf16_optimizer_states and experiment.stage.stage == 0:
        key = "precision.bf16.bf16_optimizer_states"
        fix = either("stage=2", f"{key}=null precision.bf16.bf16_master_weights_and_grads=null")
        yield Problem(key, True, "only works at stages 1 to 3", "null at stage 0", fix)


def check_grad_overflow_cannot_be_turned_off(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """check_grad_overflow only works at stages 1 and 2: runs at stage 3 skipped steps regardless."""
    check = experiment.precision.bf16.check_grad_overflow
    always_checks = experiment.stage.stage in (0, 3) or runs_bf16_optimizer(experiment, facts.dtype)
    if check is False and always_checks:
        key = "precision.bf16.check_grad_overflow"
        stage = f"stage {experiment.stage.stage}"
        where = f"{stage} with fp32 accumulation" if experiment.stage.stage == 1 else stage
        reason = f"has no effect at {where}: DeepSpeed checks gradients anyway"
        yield Problem(
            key, False, reason, "null", either(f"{key}=null", fixes.stage_2(experiment)), ignored=True
        )


def immediate_grad_update_needs_bf16_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Only BF16_Optimizer reads it: bf16, stage 1, fp32 accumulation, no offload (engine.py)."""
    value = experiment.precision.bf16.immediate_grad_update
    if value is not None and not runs_bf16_optimizer(experiment, facts.dtype):
        key = "precision.bf16.immediate_grad_update"
        reason = "only used at stage 1 with bf16, fp32 accumulation and no offload"
        bf16 = "" if facts.dtype == "bf16" else "precision=bf16 "
        used = f"{bf16}stage=1 precision.data_types.grad_accum_dtype=fp32 offload=none"
        fix = either(f"{key}=null", *([used] if fixes.supports_bf16(facts) else []))
        yield Problem(key, value, reason, "null", fix, ignored=True)


def autocast_does_not_scale_twice(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A float16 autocast brings its own loss scaler (zero/stage_1_and_2.py, zero/stage3.py), fp16 too.
    bf16 needs none, and a bfloat16 autocast over it keeps sensitive operations in fp32."""
    autocast, key = experiment.precision.torch_autocast, "precision.torch_autocast.enabled"
    fix = either("precision=fp32", fixes.autocast_off(experiment))
    if autocast.enabled and facts.dtype == "fp16":
        reason = "precision=fp16 already casts the model and scales the loss"
        yield Problem(key, True, reason, "true with precision=fp32, tf32 or bf16", fix)
    if autocast.enabled and facts.dtype == "bf16" and autocast.dtype not in (None, "bfloat16"):
        key = "precision.torch_autocast.dtype"
        reason = "precision=bf16 casts the model to bfloat16, and float16 would be scaled on top"
        fix = either(f"{key}=bfloat16", "precision=fp32")
        yield Problem(key, autocast.dtype, reason, "bfloat16 with precision=bf16", fix)


def autocast_keys_need_autocast(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of autocast are ignored while it is off, and it needs a dtype while it is on."""
    block = experiment.precision.torch_autocast
    if block.enabled and block.dtype is None:
        key = "precision.torch_autocast.dtype"
        yield Problem(
            key, None, "torch.autocast needs a dtype", "bfloat16, float16", either(f"{key}=bfloat16")
        )
    if not block.enabled:
        for name, value in block.given(without={"enabled"}).items():
            key = f"precision.torch_autocast.{name}"
            reason = "only used with precision.torch_autocast.enabled=true"
            on = "precision.torch_autocast.enabled=true precision.torch_autocast.dtype=bfloat16"
            fix = either(f"{key}=null", f"precision=fp32 {on}")
            yield Problem(key, value, reason, "null", fix, ignored=True)


def warn_about_unchecked_gradients(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Without the check, nothing protects the weights from non-finite gradients."""
    if facts.dtype == "bf16" and experiment.precision.bf16.check_grad_overflow is False:
        yield Notice(
            level="warning",
            key="precision.bf16.check_grad_overflow",
            text="non-finite gradients will be applied to the weights",
        )


def advise_fp32_accumulation(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """bf16 has 8 significant bits, so a sum of many micro-batches loses small gradients."""
    accumulation = facts.accumulation
    chosen = experiment.precision.data_types.grad_accum_dtype
    key = "precision.data_types.grad_accum_dtype"
    if facts.dtype == "bf16" and accumulation >= 8 and chosen is None and experiment.stage.stage > 0:
        yield Notice(
            level="advice",
            key=key,
            text=f"{accumulation} micro-batches are summed in bf16; {key}=fp32 is more precise",
        )


BF16_TRAINED = frozenset({"t5", "mt5", "umt5", "longt5", "gemma", "gemma2", "gemma3", "gemma3_text"})
"""Model types whose activations exceed the range of fp16."""


def warn_about_bf16_models_in_fp16(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """bf16 weights used in fp16 are the first cause of NaN losses that the DeepSpeed guide lists."""
    config = facts.model.config
    saved_in = str(config.get("dtype") or config.get("torch_dtype") or "")
    is_bf16 = saved_in.endswith("bfloat16") or config.get("model_type") in BF16_TRAINED
    if facts.dtype == "fp16" and is_bf16 and not facts.model.random_init:
        text = (
            "the model was trained in bf16, so values can overflow in fp16 (NaN losses); try precision=bf16"
        )
        yield Notice(level="warning", key="precision", text=text)


def notice_tf32(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """What changes numbers is said."""
    if facts.dtype == "tf32":
        text = "matrix products round their fp32 inputs to 10 bits of mantissa"
        yield Notice(level="info", key="precision", text=text)


ERRORS = (
    settings_match_the_dtype,
    fixed_loss_scale_excludes_dynamic_settings,
    device_supports_the_dtype,
    fp32_accumulation_needs_a_zero_stage,
    fp16_needs_a_zero_stage,
    param_dtype_matches_the_precision,
    grad_accum_dtype_is_supported,
    low_precision_masters_need_cpu_adam,
    bf16_states_need_bf16_masters,
    bf16_states_need_a_zero_stage,
    check_grad_overflow_cannot_be_turned_off,
    immediate_grad_update_needs_bf16_optimizer,
    autocast_does_not_scale_twice,
    autocast_keys_need_autocast,
)
NOTICES = (
    warn_about_unchecked_gradients,
    advise_fp32_accumulation,
    warn_about_bf16_models_in_fp16,
    notice_tf32,
)
