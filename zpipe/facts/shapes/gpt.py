"""GPT-2 and GPT-NeoX. Source: transformers, models/{gpt2,gpt_neox}/modeling_*.py."""

from zpipe.facts.decoder import Decoder
from zpipe.facts.shapes.names import Shapes, head, linear, norm, repeated


def gpt2_shapes(decoder: Decoder) -> Shapes:
    """All parameters of GPT-2."""
    hidden, inner = decoder.hidden, decoder.intermediate
    layer = norm("ln_1", hidden, bias=True)
    layer |= _transposed("attn.c_attn", hidden, 3 * hidden) | _transposed("attn.c_proj", hidden, hidden)
    layer |= norm("ln_2", hidden, bias=True)
    layer |= _transposed("mlp.c_fc", hidden, inner) | _transposed("mlp.c_proj", inner, hidden)
    tokens = linear("transformer.wte", decoder.vocab, hidden)
    positions = linear("transformer.wpe", decoder.positions, hidden)
    layers = repeated("transformer.h", decoder, lambda _: layer)
    return tokens | positions | layers | norm("transformer.ln_f", hidden, bias=True) | head(decoder)


def _transposed(name: str, inputs: int, outputs: int) -> Shapes:
    """transformers' Conv1D: a linear layer whose weight is transposed."""
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def gpt_neox_shapes(decoder: Decoder) -> Shapes:
    """All parameters of GPT-NeoX and Pythia."""
    hidden, inner, biased = decoder.hidden, decoder.intermediate, decoder.attention_bias == "all"
    layer = norm("input_layernorm", hidden, bias=True) | norm("post_attention_layernorm", hidden, bias=True)
    layer |= linear("attention.query_key_value", 3 * hidden, hidden, biased)
    layer |= linear("attention.dense", hidden, hidden, biased)
    layer |= linear("mlp.dense_h_to_4h", inner, hidden, bias=True)
    layer |= linear("mlp.dense_4h_to_h", hidden, inner, bias=True)
    embeddings = linear("gpt_neox.embed_in", decoder.vocab, hidden)
    layers = repeated("gpt_neox.layers", decoder, lambda _: layer)
    return embeddings | layers | norm("gpt_neox.final_layer_norm", hidden, bias=True) | head(decoder)
