"""Number formats against the device, the stage and each other."""

from collections.abc import Iterator

from zpipe.facts.facts import BF16_CAPABILITY, Facts
from zpipe.plan import Notice
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
    accumulate = experiment.precision.grad_accum_dtype
    if experiment.stage.stage == 0 and facts.dtype == "bf16" and accumulate == "fp32":
        yield Problem(
            "precision.grad_accum_dtype",
            accumulate,
            "DeepSpeed does not support it at stage 0 under bf16",
            "null or bf16 at stage 0",
            "stage=1, or precision.grad_accum_dtype=null",
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


def warn_of_unchecked_gradients(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """What protects a run against gradients that are not finite, and where nothing does."""
    if facts.dtype == "bf16" and experiment.precision.bf16.check_grad_overflow is False:
        yield Notice(
            level="warning",
            key="precision.bf16.check_grad_overflow",
            text="at stages 1 and 2, gradients that are not finite will be applied; stage 3 checks anyway",
        )


def advise_fp32_accumulation(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """bf16 keeps 8 bits of a sum; many micro-batches lose the small ones."""
    accumulation = experiment.batch.gradient_accumulation_steps
    chosen = experiment.precision.grad_accum_dtype
    if facts.dtype == "bf16" and accumulation >= 8 and chosen is None and experiment.stage.stage > 0:
        yield Notice(
            level="advice",
            key="precision.grad_accum_dtype",
            text=f"{accumulation} micro-batches are summed in bf16; precision.grad_accum_dtype=fp32 is exact",
        )


ERRORS = (
    settings_belong_to_the_format,
    fixed_scale_has_no_dynamics,
    device_has_the_format,
    stage_0_cannot_accumulate_in_fp32_under_bf16,
    stage_0_does_not_scale_the_loss,
)
NOTICES = (warn_of_unchecked_gradients, advise_fp32_accumulation)
