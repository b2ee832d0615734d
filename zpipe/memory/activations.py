"""The memory of activations of one decoder layer, without torch."""

from dataclasses import dataclass, replace

from zpipe.facts.decoder import Decoder
from zpipe.memory.saved_tensors import (
    FP32,
    Layer,
    Saved,
    final_norm,
    kept_by_activation,
    router_weight,
    saved_tensors,
)


@dataclass(frozen=True)
class LayerActivations:
    """Bytes per token of the micro-batch."""

    saved: tuple[Saved, ...]
    """Name and size of the tensors that autograd keeps without checkpointing, in the order of allocation.

    The residual stream is in it where a norm keeps it; with a checkpoint, the layer keeps only its input.
    """
    forward_transient: int
    """The most that the forward pass has at once beyond the input of the layer and all of `saved`.

    It includes the output of the layer.
    """
    backward_transient: int
    """The most that the backward pass has at once beyond the gradient of the output and all of `saved`.

    Gradients of parameters are not included.
    """

    @property
    def kept(self) -> int:
        """The sum of `saved`."""
        return sum(size for _, size in self.saved)


def default_attention(decoder: Decoder) -> str:
    """What transformers takes without `attn_implementation`."""
    return "eager" if decoder.model_type == "gemma2" else "sdpa"


def layer_activations(
    decoder: Decoder,
    *,
    attention: str,
    liger: bool,
    element_bytes: int = 2,
    sequence: int,
    masked: bool = False,
) -> LayerActivations:
    """Of a layer with experts, if the decoder has any: `without_experts` describes the others.

    `attention` is transformers' name of the implementation. `masked` says that a batch may be padded: the
    kernel then gets a mask, as it does for a sequence that is longer than the sliding window.
    """
    is_cut = decoder.sliding_window is not None and sequence >= decoder.sliding_window
    layer = Layer(decoder, attention, liger, element_bytes, sequence, masked or is_cut)
    saved = tuple(saved_tensors(layer))
    return LayerActivations(saved, _forward_transient(layer, saved), _backward_transient(layer, saved))


def final_norm_bytes(decoder: Decoder, *, liger: bool, element_bytes: int = 2) -> int:
    """Bytes per token that the norm behind the last layer keeps, with its output."""
    return sum(size for _, size in final_norm(Layer(decoder, "sdpa", liger, element_bytes, 1, False)))


def extra_logits(decoder: Decoder) -> int:
    """Tensors of the size and dtype of the logits that their soft cap keeps for the backward pass."""
    return int(decoder.final_softcap)


def without_experts(decoder: Decoder) -> Decoder:
    """The decoder as its `dense_layers` are: with an MLP in place of the experts."""
    return replace(decoder, experts=0, experts_per_token=0, shared_intermediate=0)


def _forward_transient(layer: Layer, saved: tuple[Saved, ...]) -> int:
    """The peak is at the end of the layer, or at the softmax of long sequences."""
    at_end = _at_end(layer)
    if layer.attention != "eager":
        return at_end
    names = [name for name, _ in saved]
    before = sum(size for _, size in saved[: names.index("key") + 1])
    projections = layer.element * (2 * layer.decoder.query + 2 * layer.decoder.key_value)
    softmax = layer.element + 2 * FP32 if layer.softmax_in_fp32 else 2 * layer.element
    softcap = layer.element if layer.decoder.attention_softcap else 0
    at_softmax = before + projections + (softmax + softcap) * layer.scores
    return max(at_end, at_softmax - sum(size for _, size in saved))


def _at_end(layer: Layer) -> int:
    """Outputs of the last operations; the residual stream is not counted twice where a norm keeps it."""
    decoder, hidden = layer.decoder, layer.hidden
    if decoder.parallel_residual:
        return 3 * hidden
    residual = -hidden if layer.norms_keep_residual else hidden
    if layer.liger:
        return residual + 2 * hidden + max(0, _liger_buffers(layer) - hidden)
    if decoder.experts:
        weighted = decoder.experts_per_token * router_weight(layer) * decoder.hidden
        return residual + 2 * max(weighted, hidden)
    if decoder.norms == 4 and not layer.norms_keep_residual:
        return 3 * hidden + FP32 * decoder.hidden
    # GPT-2 holds the output of the attention to the end.
    held = hidden if decoder.model_type == "gpt2" else 0
    return residual + 2 * hidden + held


def _liger_buffers(layer: Layer) -> int:
    """What Liger's MLP holds beside its output: results of experts, or Phi-3's whole projection."""
    decoder = layer.decoder
    if decoder.experts:
        inner = layer.element * decoder.expert_intermediate
        return decoder.experts_per_token * (inner + layer.hidden)
    return 2 * layer.element * decoder.intermediate if decoder.fused_projections else 0


def _backward_transient(layer: Layer, saved: tuple[Saved, ...]) -> int:
    """The largest of the peaks in MLP, the norm before it, and the scores of eager attention."""
    decoder, element = layer.decoder, layer.element
    sizes = dict(saved)
    mlp = sum(size for name, size in saved if name.startswith(("mlp", "router", "experts", "shared_expert")))
    freed = sum(size for name, size in saved if name.startswith("post_feedforward"))
    if layer.liger and decoder.norms == 4:  # its gradient is a new tensor, and not in the place of another
        freed -= layer.hidden
    peaks = [(_in_experts(layer) if decoder.experts else _in_mlp(layer)) - freed]
    if decoder.norm != "layer" and not layer.liger:
        peaks.append(4 * FP32 * decoder.hidden - (mlp if decoder.norms < 4 else 0))
    if layer.attention == "eager":
        names = [name for name, _ in saved]
        after = sum(size for _, size in saved[names.index("attention.output") + 1 :])
        scores = 2 * FP32 - element if layer.softmax_in_fp32 else 2 * element
        shared_input = layer.hidden if decoder.norms == 1 else 0
        peaks.append(scores * layer.scores - after - sizes["attention.output"] + shared_input)
    return max(peaks)


def _in_mlp(layer: Layer) -> int:
    """Gradients of the product, the activation and the second projection, less the product."""
    size = layer.element * layer.decoder.intermediate
    if layer.liger_mlp or (not layer.decoder.gated_mlp and kept_by_activation(layer.decoder) == 1):
        return size
    return 2 * size


def _in_experts(layer: Layer) -> int:
    decoder, count = layer.decoder, layer.decoder.experts_per_token
    inner, outer = layer.element * decoder.expert_intermediate * count, layer.hidden * count
    if layer.liger:
        return 3 * inner + outer + layer.hidden
    weighted = router_weight(layer) * decoder.hidden * count
    at_output = 3 * weighted + (outer if weighted != outer else 0)
    shared = layer.hidden if decoder.shared_intermediate else 0
    return max(at_output, 2 * inner - outer) + shared
