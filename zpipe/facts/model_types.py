"""What a configuration leaves unsaid: names and defaults of the keys that a model type reads, and its fixed
properties.

Source: transformers, models/*/configuration_*.py and modeling_*.py.
"""

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

_GROUPED: Settings = {"num_key_value_heads": None, "head_dim": None}
_GEMMA: Settings = {"num_key_value_heads": 16, "head_dim": 256, "attention_bias": False}
_EXPERTS: Settings = {**_GROUPED, "decoder_sparse_step": 1, "mlp_only_layers": None}

DEFAULTS: Mapping[str, Settings] = {
    "llama": {**_GROUPED, "attention_bias": False, "mlp_bias": False},
    "mistral": {**_GROUPED, "num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {**_GROUPED, "num_key_value_heads": 32},
    "qwen3": {**_GROUPED, "num_key_value_heads": 32, "head_dim": 128, "attention_bias": False},
    "gemma": {**_GEMMA, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True},
    "gemma2": {
        **_GEMMA,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        "hidden_act": "gelu_pytorch_tanh",
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "gemma3_text": {
        **_GEMMA,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        "hidden_act": "gelu_pytorch_tanh",
        "sliding_window": 4096,
        "final_logit_softcapping": None,
    },
    "phi": {**_GROUPED, "hidden_act": "gelu_new", "qk_layernorm": False, "resid_pdrop": 0.0},
    "phi3": {**_GROUPED, "sliding_window": None, "resid_pdrop": 0.0},
    "gpt2": {
        "intermediate_size": None,
        "tie_word_embeddings": True,
        "hidden_act": "gelu_new",
        "max_position_embeddings": 1024,
        "attention_dropout": 0.1,
        "resid_pdrop": 0.1,
    },
    "gpt_neox": {
        "hidden_act": "gelu",
        "attention_bias": True,
        "use_parallel_residual": True,
        "resid_pdrop": 0.0,
    },
    "mixtral": {
        **_GROUPED,
        "num_key_value_heads": 8,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "sliding_window": None,
    },
    "qwen2_moe": {
        **_EXPERTS,
        "num_key_value_heads": 16,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "qkv_bias": True,
    },
    "qwen3_moe": {
        **_EXPERTS,
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "attention_bias": False,
    },
}
"""Optional keys that a model type reads beside `COMMON`, with transformers' defaults."""

COMMON: Settings = {"tie_word_embeddings": False, "hidden_act": "silu", "attention_dropout": 0.0}
"""Optional keys that every model type reads, with the most common defaults."""

REQUIRED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Sizes that are read always. Their defaults are those of one model, and only transformers uses them."""

NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gemma2": {"hidden_act": ("hidden_activation",)},
    "gemma3_text": {"hidden_act": ("hidden_activation",)},
    "gpt2": {
        "hidden_size": ("n_embd", "hidden_size"),
        "intermediate_size": ("n_inner",),
        "num_hidden_layers": ("n_layer", "num_hidden_layers"),
        "num_attention_heads": ("n_head", "num_attention_heads"),
        "max_position_embeddings": ("n_positions", "max_position_embeddings"),
        "hidden_act": ("activation_function",),
        "attention_dropout": ("attn_pdrop",),
    },
    "gpt_neox": {"resid_pdrop": ("hidden_dropout",)},
    "mixtral": {"num_experts": ("num_local_experts", "num_experts")},
    "qwen3_moe": {"num_experts": ("num_experts", "num_local_experts")},
}
"""The keys of model types that have other names than the rest."""

FIXED: Mapping[str, Settings] = {
    "qwen2": {"attention_bias": "qkv"},
    "qwen3": {"query_key_norm": True},
    "gemma": {"norm": "gemma"},
    "gemma2": {"norm": "gemma", "norms": 4},
    "gemma3_text": {"norm": "gemma", "norms": 4, "query_key_norm": True},
    "phi": {
        "norm": "layer",
        "norms": 1,
        "parallel_residual": True,
        "gated_mlp": False,
        "attention_bias": "all",
        "mlp_bias": True,
    },
    "phi3": {"fused_projections": True},
    "gpt2": {
        "norm": "layer",
        "gated_mlp": False,
        "attention_bias": "all",
        "mlp_bias": True,
        "fused_projections": True,
    },
    "gpt_neox": {"norm": "layer", "gated_mlp": False, "mlp_bias": True, "fused_projections": True},
    "qwen3_moe": {"query_key_norm": True},
}
"""Properties of a `Decoder` that follow from the model type alone."""

ROTATED: Mapping[str, tuple[str, float]] = {
    "phi": ("partial_rotary_factor", 0.5),
    "phi3": ("partial_rotary_factor", 1.0),
    "gpt_neox": ("rotary_pct", 0.25),
}
"""Model types that rotate a part of each head: its key and default. Others rotate all of it, gpt2 none."""

GENERIC_DEFAULTS: Settings = {
    **_EXPERTS,
    "intermediate_size": None,
    "attention_bias": False,
    "moe_intermediate_size": None,
    "num_experts": None,
    "num_experts_per_tok": None,
    "shared_expert_intermediate_size": None,
}
GENERIC_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "hidden_act": ("hidden_act", "hidden_activation", "activation_function"),
    "num_experts": ("num_experts", "num_local_experts", "n_routed_experts"),
}
"""What most other model types call their keys."""


def keys_read(model_type: str) -> frozenset[str]:
    """The keys that a known model type reads; none of another one."""
    if model_type not in DEFAULTS:
        return frozenset()
    names = NAMES.get(model_type, {})
    known = (*REQUIRED, *COMMON, *DEFAULTS[model_type])
    return frozenset(key for name in known for key in names.get(name, (name,)))
