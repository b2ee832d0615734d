"""Llama and its descendants, with one MLP or with experts.

Source: transformers, models/{llama,mistral,qwen2,qwen3,gemma,gemma2,gemma3}/modeling_*.py and
models/{mixtral,qwen2_moe,qwen3_moe}/modeling_*.py.
"""

from zpipe.facts.decoder import Decoder
from zpipe.facts.shapes.names import Shapes, head, linear, norm, repeated

NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def llama_shapes(decoder: Decoder) -> Shapes:
    """All parameters."""
    attention, mlp = _attention(decoder), _mlp("mlp", decoder, decoder.intermediate)
    experts = _experts(decoder) if decoder.experts else mlp
    norms: Shapes = {}
    for name in NORMS[: decoder.norms]:
        norms |= norm(name, decoder.hidden)

    def layer(index: int) -> Shapes:
        return attention | (mlp if index in decoder.dense_layers else experts) | norms

    embeddings = linear("model.embed_tokens", decoder.vocab, decoder.hidden)
    layers = repeated("model.layers", decoder, layer)
    return embeddings | layers | norm("model.norm", decoder.hidden) | head(decoder)


def _attention(decoder: Decoder) -> Shapes:
    bias, output_bias = decoder.attention_bias != "none", decoder.attention_bias == "all"
    shapes = linear("self_attn.q_proj", decoder.query, decoder.hidden, bias)
    shapes |= linear("self_attn.k_proj", decoder.key_value, decoder.hidden, bias)
    shapes |= linear("self_attn.v_proj", decoder.key_value, decoder.hidden, bias)
    shapes |= linear("self_attn.o_proj", decoder.hidden, decoder.query, output_bias)
    if decoder.query_key_norm:
        shapes |= norm("self_attn.q_norm", decoder.head_dim) | norm("self_attn.k_norm", decoder.head_dim)
    return shapes


def _mlp(name: str, decoder: Decoder, intermediate: int) -> Shapes:
    hidden, bias = decoder.hidden, decoder.mlp_bias
    shapes = linear(f"{name}.gate_proj", intermediate, hidden, bias)
    shapes |= linear(f"{name}.up_proj", intermediate, hidden, bias)
    return shapes | linear(f"{name}.down_proj", hidden, intermediate, bias)


def _experts(decoder: Decoder) -> Shapes:
    """The matrices of all experts are one parameter."""
    hidden, experts, inner = decoder.hidden, decoder.experts, decoder.expert_intermediate
    shapes: Shapes = {
        "mlp.gate.weight": (experts, hidden),
        "mlp.experts.gate_up_proj": (experts, 2 * inner, hidden),
        "mlp.experts.down_proj": (experts, hidden, inner),
    }
    if decoder.shared_intermediate:
        shapes |= _mlp("mlp.shared_expert", decoder, decoder.shared_intermediate)
        shapes |= linear("mlp.shared_expert_gate", 1, hidden)
    return shapes
