"""What one decoder layer keeps for the backward pass, in bytes for each token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LayerActivations:
    """In bytes per token."""

    saved: tuple[tuple[str, int], ...]
    """The tensors that autograd keeps without checkpointing, in the order of allocation."""
    forward_transient: int
    """The most that is alive beyond the saved ones while the layer runs forward."""
    backward_transient: int
    """The most that the backward pass adds to what it has not freed yet."""


def llama_activations(config: Mapping[str, Any], *, liger: bool, element: int) -> LayerActivations:
    hidden, inner, heads = (
        int(config[name]) for name in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    head = int(config.get("head_dim") or hidden // heads)
    query, key_value = heads * head, int(config.get("num_key_value_heads") or heads) * head
    norm = [("norm", element * hidden)] * 2
    if not liger:
        norm = [("norm in fp32", 4 * hidden), *norm]
    attention = [
        ("values", element * key_value),
        ("queries", element * query),
        ("keys", element * key_value),
        ("attention", element * query),
        ("logsumexp", 4 * heads),
    ]
    mlp = [("mlp", element * inner)] * (3 if liger else 4)
    return LayerActivations(
        saved=(*norm, *attention, *norm, *mlp),
        forward_transient=8 * hidden,
        backward_transient=2 * element * hidden + element * inner * (1 if liger else 2),
    )
