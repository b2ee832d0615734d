"""Phi and Phi-3. Source: transformers, models/{phi,phi3}/modeling_*.py."""

from zpipe.facts.decoder import Decoder
from zpipe.facts.shapes.names import Shapes, head, linear, norm, repeated


def phi_shapes(decoder: Decoder) -> Shapes:
    """All parameters of Phi 1 to 2."""
    hidden, inner = decoder.hidden, decoder.intermediate
    layer = linear("self_attn.q_proj", decoder.query, hidden, bias=True)
    layer |= linear("self_attn.k_proj", decoder.key_value, hidden, bias=True)
    layer |= linear("self_attn.v_proj", decoder.key_value, hidden, bias=True)
    layer |= linear("self_attn.dense", hidden, decoder.query, bias=True)
    if decoder.query_key_norm:
        for name in ("q_layernorm", "k_layernorm"):
            layer |= norm(f"self_attn.{name}", hidden // decoder.heads, bias=True)
    layer |= linear("mlp.fc1", inner, hidden, bias=True) | linear("mlp.fc2", hidden, inner, bias=True)
    layer |= norm("input_layernorm", hidden, bias=True)
    embeddings = linear("model.embed_tokens", decoder.vocab, hidden)
    layers = repeated("model.layers", decoder, lambda _: layer)
    return embeddings | layers | norm("model.final_layernorm", hidden, bias=True) | head(decoder, bias=True)


def phi3_shapes(decoder: Decoder) -> Shapes:
    """All parameters of Phi-3 and Phi-4."""
    hidden, inner = decoder.hidden, decoder.intermediate
    layer = linear("self_attn.o_proj", hidden, decoder.query)
    layer |= linear("self_attn.qkv_proj", decoder.query + 2 * decoder.key_value, hidden)
    layer |= linear("mlp.gate_up_proj", 2 * inner, hidden) | linear("mlp.down_proj", hidden, inner)
    layer |= norm("input_layernorm", hidden) | norm("post_attention_layernorm", hidden)
    embeddings = linear("model.embed_tokens", decoder.vocab, hidden)
    layers = repeated("model.layers", decoder, lambda _: layer)
    return embeddings | layers | norm("model.norm", hidden) | head(decoder)
