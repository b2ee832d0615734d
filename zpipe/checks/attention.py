"""Attention: which kernels the device, the precision and the data allow."""

from collections.abc import Iterator

from zpipe.checks import fixes
from zpipe.facts.architecture import architecture
from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.schema.model import is_hub_kernel

LEAST_CAPABILITY = {
    "flash_attention_2": (8, 0),
    "flash_attention_3": (8, 0),
    "flash_attention_4": (9, 0),
}
"""What transformers requires (modeling_flash_attention_utils.py), and flash-attn's own requirement for 2."""

KEY, BACKEND = "model.attn_implementation", "kernels.sdpa_backend"
HALF_PRECISION = ("flash", "cudnn")
"""Kernels of PyTorch's attention for 16 bits only, on Ampere or later (aten/native/transformers/cuda)."""


def attention_runs_on_the_device(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Flash attention is CUDA code, and flex_attention has no backward pass on a CPU."""
    chosen = experiment.model.attn_implementation
    if chosen in (None, "eager", "sdpa"):
        return
    fix = either(f"{KEY}=sdpa", f"{KEY}=null")
    if facts.device == "cpu":
        yield Problem(KEY, chosen, "trains on CUDA GPUs only", "null, eager, sdpa on a CPU", fix)
        return
    least = LEAST_CAPABILITY.get(chosen or "")
    too_old = [gpu for gpu in facts.hardware.gpus if least and gpu.compute_capability < least]
    if least and too_old:
        needed, found = (".".join(map(str, each)) for each in (least, too_old[0].compute_capability))
        reason = f"needs compute capability {needed}; {too_old[0].name} has {found}"
        yield Problem(KEY, chosen, reason, "null, eager, sdpa", fix)


def flash_attention_needs_16_bits(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Its kernels take fp16 and bf16 only; transformers warns and the first step fails."""
    chosen = experiment.model.attn_implementation or ""
    if not chosen.startswith("flash_attention") and not is_hub_kernel(chosen):
        return
    if facts.device == "cuda" and not _has_16_bits(experiment, facts):
        reason = f"computes in 16 bits, but the precision is {facts.dtype}"
        fix = either(fixes.half_precision(experiment, facts), f"{KEY}=sdpa")
        yield Problem(KEY, chosen, reason, "with precision=bf16 or fp16", fix)


def sdpa_backend_is_used(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Only PyTorch's scaled_dot_product_attention reads the choice, and on CUDA only."""
    chosen, attention = experiment.kernels.sdpa_backend, experiment.model.attn_implementation
    if chosen == "auto":
        return
    drop = f"{BACKEND}=auto"
    if facts.device == "cpu":
        yield Problem(BACKEND, chosen, "needs a CUDA GPU", "auto on a CPU", either(drop))
    elif attention not in (None, "sdpa"):
        reason = f"only used by sdpa, but {KEY} is {attention}"
        yield Problem(BACKEND, chosen, reason, "auto", either(drop, f"{KEY}=sdpa"), ignored=True)
    elif _has_no_sdpa(facts):
        kind = facts.model.config["model_type"]
        reason = f"only used by sdpa, which {kind} does not have in transformers"
        yield Problem(BACKEND, chosen, reason, "auto", either(drop), ignored=True)


def sdpa_backend_can_run(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """PyTorch raises at the first step if the only kernel that it may run cannot."""
    chosen = experiment.kernels.sdpa_backend
    if facts.device == "cpu":
        return
    config, drop = facts.model.config, f"{BACKEND}=auto"
    heads, groups = config.get("num_attention_heads"), config.get("num_key_value_heads")
    has_mask = experiment.data.packing == "none"
    if chosen in HALF_PRECISION and not _has_16_bits(experiment, facts):
        reason = f"computes in 16 bits, but the precision is {facts.dtype}"
        fix = either(drop, fixes.half_precision(experiment, facts))
        yield Problem(BACKEND, chosen, reason, "auto, efficient, math", fix)
    if chosen in HALF_PRECISION and any(gpu.compute_capability < (8, 0) for gpu in facts.hardware.gpus):
        reason = "needs compute capability 8.0 (Ampere) or later"
        yield Problem(BACKEND, chosen, reason, "auto, efficient, math", either(drop))
    if chosen == "flash" and has_mask:
        reason = "takes no attention mask, and data.packing=none pads sequences, which needs one"
        yield Problem(BACKEND, chosen, reason, "auto, cudnn, math", either(drop, "data.packing=wrapped"))
    if chosen == "efficient" and not has_mask and heads != groups and groups is not None:
        reason = f"does not share {groups} key-value heads among {heads} heads"
        yield Problem(BACKEND, chosen, reason, "auto, cudnn, flash, math", either(drop))


def notice_attention(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """A kernel that was chosen by name rounds differently from the default."""
    chosen, backend = experiment.model.attn_implementation, experiment.kernels.sdpa_backend
    if chosen is not None and is_hub_kernel(chosen):
        text = "transformers downloads this kernel from the hub, and runs its code, when the model is built"
        yield Notice(level="warning", key=KEY, text=text)
    if backend != "auto":
        text = f"attention runs {backend} only: the loss is that of other kernels up to rounding"
        yield Notice(level="info", key=BACKEND, text=text)


def _has_16_bits(experiment: Experiment, facts: Facts) -> bool:
    return facts.dtype in ("fp16", "bf16") or bool(experiment.precision.torch_autocast.enabled)


def _has_no_sdpa(facts: Facts) -> bool:
    kind = facts.model.config.get("model_type")
    known = architecture(kind) if isinstance(kind, str) else None
    return known is not None and not known.declares("_supports_sdpa")


ERRORS = (
    attention_runs_on_the_device,
    flash_attention_needs_16_bits,
    sdpa_backend_is_used,
    sdpa_backend_can_run,
)
NOTICES = (notice_attention,)
