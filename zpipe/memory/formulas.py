"""Says for each term of the GPU how it is computed, with the numbers of the plan, and what allocates it."""

from typing import NamedTuple

from zpipe.memory.model import Model
from zpipe.memory.sizes import Sizes


class Formula(NamedTuple):
    text: str
    source: str


def formulas(sizes: Sizes, model: Model) -> dict[str, Formula]:
    """By the names of terms on a tape."""
    return {**_of_states(sizes), **_of_passes(sizes, model)}


def _of_states(sizes: Sizes) -> dict[str, Formula]:
    file = "zero/stage3.py" if sizes.stage == 3 else "zero/stage_1_and_2.py"
    if sizes.stage == 0:
        file = "fp16/fused_optimizer.py"
    part = f"{sizes.partition:,}" + (f" of rank 0 of {sizes.ranks}" if sizes.ranks > 1 else "")
    whole = f"{sizes.total:,}"
    bucket = f"{sizes.zero.reduce_bucket:,}"
    buckets = "2 x " if sizes.zero.overlaps and sizes.stage < 3 else ""
    kept = sizes.zero.reuse + sizes.zero.prefetch
    largest = f"{sizes.largest:,}"
    return {
        "parameters": Formula(f"{sizes.element} B x {part if sizes.stage == 3 else whole}", file),
        "master weights": Formula(f"{sizes.master} B x {part}", file),
        "optimizer states": Formula(f"{sizes.state} B x {part}", "the optimizer"),
        "gradients": Formula(f"{sizes.gradient} B x those computed by then of {part}", file),
        "gradients of the update": Formula(
            f"flat and in fp32, at most {sizes.gradient}+{sizes.master} B x {part}", file
        ),
        "reduce buckets": Formula(f"{buckets}{sizes.element} B x {bucket}", f"{file}: setup_buckets"),
        "second copy of the parameters": Formula(
            f"{sizes.element} B x {whole} / {sizes.zero.secondary} ranks",
            "zero_hpz_partition_size: partition_parameters.py",
        ),
        "reduce bucket": Formula(f"{sizes.element} B x {bucket}", f"{file}: _setup_for_real_optimizer"),
        "staging buffer of offloaded gradients": Formula(f"{sizes.element} B x {largest}", file),
        "persistent parameters": Formula(
            f"{sizes.element} B x {sizes.persistent:,}", "stage3_param_persistence_threshold"
        ),
        "gathered parameters": Formula(
            f"{sizes.element} B x at most {min(sizes.total, kept):,}", "zero/partitioned_param_coordinator.py"
        ),
    }


def _of_passes(sizes: Sizes, model: Model) -> dict[str, Formula]:
    tokens = f"{model.tokens:,} tokens"
    per_token = sum(bytes_ for _, bytes_ in model.layer.saved)
    layers, hidden = len(model.layers), model.hidden
    head = f"{model.element} B x {model.vocabulary:,} x {hidden:,}"
    if model.has_fused_loss:
        logits = Formula(
            f"{model.element} B x {hidden:,} x {tokens}, and logits of a chunk",
            "Liger's fused linear cross-entropy",
        )
    else:
        logits = Formula(
            f"at most {8 + model.element} B x {model.vocabulary:,} x {tokens}",
            "transformers/loss/loss_utils.py",
        )
    return {
        "activations": Formula(
            f"{layers} layers x {per_token:,} B x {tokens}, the residual, the last norm", "autograd"
        ),
        "checkpointed inputs": Formula(
            f"{layers} layers x {model.element} B x {hidden:,} x {tokens}", "torch/utils/checkpoint.py"
        ),
        "work of one layer": Formula(
            f"recomputed {per_token:,} B and {model.layer.backward_transient:,} B of gradients x {tokens}"
            if model.is_checkpointed
            else f"{model.layer.backward_transient:,} B of gradients x {tokens}",
            "autograd",
        ),
        "logits and loss": logits,
        "gradient of the output head": Formula(head, "autograd"),
        "cuBLAS workspaces": Formula("one for each thread that multiplies matrices", "cublasSetWorkspace"),
    }
