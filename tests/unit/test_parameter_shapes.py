"""The parameters that are computed without torch are those of the models of transformers."""

from typing import Any

import pytest

from zpipe.facts.decoder import decoder_of
from zpipe.facts.model_types import DEFAULTS
from zpipe.facts.shapes import SHAPES, has_known_shapes, parameter_shapes

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 32,
    "vocab_size": 128,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
GROUPED = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16}
GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 8}

VARIANTS: list[dict[str, Any]] = [
    *({"model_type": kind} for kind in SHAPES if kind != "gpt2"),
    *(
        {"model_type": kind, "tie_word_embeddings": not DEFAULTS[kind].get("tie_word_embeddings")}
        for kind in SHAPES
    ),
    *({"model_type": kind, **GROUPED} for kind in SHAPES if "head_dim" in DEFAULTS[kind]),
    {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    {"model_type": "qwen3", "attention_bias": True},
    {"model_type": "gemma", "attention_bias": True},
    {"model_type": "gemma2", "attention_bias": True},
    {"model_type": "gemma3_text", "attention_bias": True},
    {"model_type": "phi", "qk_layernorm": True},
    {"model_type": "gpt2", "vocab_size": 128, **GPT2},
    {"model_type": "gpt2", "vocab_size": 128, **GPT2, "n_inner": 80, "n_positions": 50},
    {"model_type": "gpt_neox", "attention_bias": False, "use_parallel_residual": False},
    {"model_type": "mixtral", "num_local_experts": 5},
    {"model_type": "mixtral", "num_experts": 5},
    {"model_type": "qwen2_moe", "qkv_bias": False, "num_experts": 6, "decoder_sparse_step": 2},
    {"model_type": "qwen2_moe", "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
    {"model_type": "qwen3_moe", "mlp_only_layers": [1], "moe_intermediate_size": 24, "num_experts": 4},
    {"model_type": "qwen3_moe", "attention_bias": True},
]


def configured(variant: dict[str, Any]) -> dict[str, Any]:
    return {**SIZES, **variant}


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: "-".join(map(str, each.values())))
def test_names_and_shapes_are_those_of_the_transformers_model(variant: dict[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = configured(variant)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    real = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert has_known_shapes(config)
    assert parameter_shapes(config) == real


def test_every_known_type_has_shapes() -> None:
    assert set(SHAPES) == set(DEFAULTS)


@pytest.mark.parametrize("kind", SHAPES)
def test_missing_size_makes_a_model_unknown(kind: str) -> None:
    config = {"model_type": kind, **{name: value for name, value in SIZES.items() if name != "vocab_size"}}
    assert not has_known_shapes(config)
    assert decoder_of(config) is None
    with pytest.raises(ValueError, match="not known"):
        parameter_shapes(config)
