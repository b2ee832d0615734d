"""The parameters of the most common decoders, computed from their configuration without torch.

Source: transformers, models/{llama,mistral,qwen2,qwen3}/modeling_*.py.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

Shapes = dict[str, tuple[int, ...]]

DENSE_DECODERS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types whose parameters are computed here."""
SHAPE_KEYS = frozenset(
    {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}
)
"""Keys that the computation needs. The defaults of missing ones are known to transformers only."""
KEY_VALUE_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32}
HEAD_DIM = {"qwen3": 128}
"""transformers' defaults that are not derived from the number of heads (configuration_*.py)."""
HEAD = "lm_head.weight"


def is_size(value: object) -> TypeGuard[int]:
    """Whether the value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_dense(config: Mapping[str, Any]) -> bool:
    """Whether `parameter_shapes` knows this model."""
    sizes = all(is_size(config.get(name)) for name in SHAPE_KEYS)
    return str(config.get("model_type")) in DENSE_DECODERS and sizes


def parameter_shapes(config: Mapping[str, Any]) -> Shapes:
    """The shape of each parameter by name, tied weights once, in the order of the modules."""
    hidden = int(config["hidden_size"])
    layer = _attention(config) | _feed_forward(config)
    layer |= {f"{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")}
    shapes: Shapes = {"model.embed_tokens.weight": (int(config["vocab_size"]), hidden)}
    for index in range(int(config["num_hidden_layers"])):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        shapes[HEAD] = (int(config["vocab_size"]), hidden)
    return shapes


def _attention(config: Mapping[str, Any]) -> Shapes:
    kind, hidden, heads = config["model_type"], int(config["hidden_size"]), int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim", HEAD_DIM.get(kind)) or hidden // heads)
    key_value_heads = config.get("num_key_value_heads", KEY_VALUE_HEADS.get(kind)) or heads
    query, key_value = heads * head_dim, int(key_value_heads) * head_dim
    outputs = {"q_proj": query, "k_proj": key_value, "v_proj": key_value}
    shapes: Shapes = {f"self_attn.{name}.weight": (rows, hidden) for name, rows in outputs.items()}
    shapes["self_attn.o_proj.weight"] = (hidden, query)
    biased = kind in ("llama", "qwen3") and bool(config.get("attention_bias"))
    if kind == "qwen2" or biased:
        shapes |= {f"self_attn.{name}.bias": (rows,) for name, rows in outputs.items()}
    if biased:
        shapes["self_attn.o_proj.bias"] = (hidden,)
    if kind == "qwen3":
        shapes |= {f"self_attn.{name}.weight": (head_dim,) for name in ("q_norm", "k_norm")}
    return shapes


def _feed_forward(config: Mapping[str, Any]) -> Shapes:
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    shapes: Shapes = {f"mlp.{name}.weight": (inner, hidden) for name in ("gate_proj", "up_proj")}
    shapes["mlp.down_proj.weight"] = (hidden, inner)
    if config["model_type"] == "llama" and config.get("mlp_bias"):
        shapes |= {f"mlp.{name}.bias": (inner,) for name in ("gate_proj", "up_proj")}
        shapes["mlp.down_proj.bias"] = (hidden,)
    return shapes
