"""The tensors that autograd keeps of one decoder layer, in bytes per token.

Sources: transformers, models/*/modeling_*.py and integrations/{moe,sdpa_attention}.py; torch,
tools/autograd/derivatives.yaml; liger_kernel, ops/{rms_norm,swiglu,geglu,fused_moe}.py. A test compares the
sums with models of transformers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from zpipe.facts.decoder import Decoder

Saved = tuple[str, int]
"""The name of a tensor and its bytes per token."""

FP32 = 4
INT64 = 8
INT32 = 4

JOINS_QUERIES = frozenset({"phi", "phi3", "gpt_neox"})
"""Model types that join rotated and other parts of a query.

Flash attention then has an output of the same memory layout, which is copied for the next projection.
"""
KEPT_BY_ACTIVATION = {"gelu_new": 4, "gelu_fast": 7, "quick_gelu": 2, "relu": 0}
"""Tensors that an activation function keeps beside its output. Most keep their input."""
NORMS = {
    1: ("input_layernorm",),
    2: ("input_layernorm", "post_attention_layernorm"),
    4: (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
}


@dataclass(frozen=True)
class Layer:
    """One layer and how it is computed."""

    decoder: Decoder
    attention: str
    """transformers' name of the implementation."""
    liger: bool
    """Whether Liger's kernels compute norms and MLP."""
    element: int
    """Bytes of an element of the parameters."""
    sequence: int
    masked: bool
    """Whether the attention receives a mask."""

    @property
    def hidden(self) -> int:
        """Bytes of the residual stream."""
        return self.element * self.decoder.hidden

    @property
    def scores(self) -> int:
        """Elements of the attention scores."""
        return self.decoder.heads * self.sequence

    @property
    def norms_keep_residual(self) -> bool:
        """Whether norms keep the residual stream itself, and not a copy in fp32."""
        return self.liger or self.decoder.norm == "layer" or self.element == FP32

    @property
    def softmax_in_fp32(self) -> bool:
        """Whether eager attention computes the softmax in another dtype than the scores."""
        return self.element != FP32 and self.decoder.model_type != "gpt2"

    @property
    def liger_mlp(self) -> bool:
        """Whether Liger replaces the MLP. Of models with experts it replaces the experts alone."""
        return self.liger and self.decoder.model_type not in ("mixtral", "qwen3_moe")


def final_norm(layer: Layer) -> Iterator[Saved]:
    """What the norm behind the last layer keeps."""
    yield from _norm(layer, "norm")


def saved_tensors(layer: Layer) -> Iterator[Saved]:
    """In the order of allocation."""
    names = NORMS[layer.decoder.norms]
    yield from _norm(layer, names[0])
    yield from _attention(layer)
    if len(names) == 4:
        yield from _norm(layer, names[1], feeds_matrices=False)
    if layer.decoder.residual_dropout:
        yield "attention_dropout.mask", layer.decoder.hidden
    if len(names) > 1:
        yield from _norm(layer, names[2] if len(names) == 4 else names[1], is_second=True)
    yield from _experts(layer) if layer.decoder.experts else _mlp(layer, "mlp", layer.decoder.intermediate)
    if len(names) == 4:
        yield from _norm(layer, names[3], feeds_matrices=False)
    if layer.decoder.residual_dropout:
        yield "mlp_dropout.mask", layer.decoder.hidden


def _norm(layer: Layer, name: str, feeds_matrices: bool = True, is_second: bool = False) -> Iterator[Saved]:
    has_same_input = is_second and layer.decoder.parallel_residual
    yield from _normalized(layer, name, layer.decoder.hidden, 1, has_same_input)
    if feeds_matrices:
        yield f"{name}.output", layer.hidden


def _normalized(
    layer: Layer, name: str, width: int, groups: int, has_same_input: bool = False
) -> Iterator[Saved]:
    """Of a norm over `groups` parts of `width` elements in all."""
    kind = layer.decoder.norm
    if layer.liger or kind == "layer":
        if not has_same_input:
            yield f"{name}.input", layer.element * width
        yield f"{name}.statistics", FP32 * groups * (1 if layer.liger else 2)
        return
    yield f"{name}.input_fp32", FP32 * width
    yield f"{name}.statistics", FP32 * groups
    yield f"{name}.normalized", (FP32 if kind == "gemma" else layer.element) * width


def _attention(layer: Layer) -> Iterator[Saved]:
    decoder = layer.decoder
    if decoder.query_key_norm:
        yield from _normalized(layer, "q_norm", decoder.query, decoder.heads)
        yield from _normalized(layer, "k_norm", decoder.key_value, decoder.key_value_heads)
    yield from _eager(layer) if layer.attention == "eager" else _kernel(layer)


def _kernel(layer: Layer) -> Iterator[Saved]:
    """scaled_dot_product_attention or a flash attention kernel."""
    decoder, element = layer.decoder, layer.element
    query, key_value = element * decoder.query, element * decoder.key_value
    is_repeated = layer.masked and layer.attention == "sdpa" and query != key_value
    if is_repeated:
        key_value = query
    # Views keep the output of the fused projection.
    fused = element * (decoder.query + 2 * decoder.key_value)
    if decoder.positions:
        yield "query_key_value", fused
    else:
        yield "query", query
        yield "key", key_value
        yield "value", fused if decoder.fused_projections and not is_repeated else key_value
    yield "attention.output", query
    yield "attention.logsumexp", FP32 * decoder.heads
    if decoder.model_type in JOINS_QUERIES and not layer.masked and not layer.liger:
        yield "attention.output_copy", query
    if layer.masked and layer.attention == "sdpa":
        yield "attention.mask", element * layer.sequence


def _eager(layer: Layer) -> Iterator[Saved]:
    """Keys and values are repeated for each query head, and all scores are kept."""
    decoder, element = layer.decoder, layer.element
    query, scores = element * decoder.query, layer.scores
    yield from (("query", query), ("key", query))
    if decoder.attention_softcap:
        yield "attention.softcap", element * scores
    if layer.softmax_in_fp32:
        yield "attention.softmax_fp32", FP32 * scores
    if layer.softmax_in_fp32 or decoder.attention_dropout:
        yield "attention.weights", element * scores
    if decoder.attention_dropout:
        yield "attention.dropout_mask", scores
    if not layer.softmax_in_fp32:
        yield "attention.softmax", element * scores
    yield from (("value", query), ("attention.output", query))


def _mlp(layer: Layer, name: str, intermediate: int) -> Iterator[Saved]:
    decoder, size = layer.decoder, layer.element * intermediate
    kept = kept_by_activation(decoder)
    if not decoder.gated_mlp:
        yield f"{name}.before_activation", kept * size
        yield f"{name}.activation", size
        return
    yield f"{name}.gate", size if layer.liger_mlp else kept * size
    if not layer.liger_mlp:
        yield f"{name}.activation", size
    yield f"{name}.up", size
    yield f"{name}.product", size


def _experts(layer: Layer) -> Iterator[Saved]:
    """Each token is in the buffers of all its experts (transformers' `grouped_mm`)."""
    decoder, element, count = layer.decoder, layer.element, layer.decoder.experts_per_token
    if decoder.shared_intermediate:
        yield from _mlp(layer, "shared_expert", decoder.shared_intermediate)
    yield "router.probabilities", FP32 * decoder.experts
    yield "router.indices", INT64 * count
    yield "router.weights", router_weight(layer) * count
    if decoder.model_type == "mixtral":
        yield "router.normalization", FP32 * (1 + count)
    inner = element * decoder.expert_intermediate * count
    if layer.liger:
        yield "experts.routing", 3 * INT32 * count
        yield "experts.gate_up", 2 * inner
        return
    yield "experts.routing", 3 * INT64 * count
    yield "experts.input", layer.hidden * count
    yield "experts.gate_up", 2 * inner
    yield "experts.activation", inner
    yield "experts.product", inner
    yield "experts.output", layer.hidden * count
    if decoder.shared_intermediate:
        yield "shared_expert.gate", element
        yield "shared_expert.output", layer.hidden


def kept_by_activation(decoder: Decoder) -> int:
    """Tensors that the activation function keeps beside its output."""
    return KEPT_BY_ACTIVATION.get(decoder.activation, 1)


def router_weight(layer: Layer) -> int:
    """Bytes of the weight of one expert for one token: Mixtral keeps them in fp32."""
    return FP32 if layer.decoder.model_type == "mixtral" else layer.element
