"""What is read of an architecture, for known and unknown model types."""

from typing import Any

import pytest

from zpipe.facts.decoder import Decoder, decoder_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "vocab_size": 128,
}


def decoder(kind: str, **more: Any) -> Decoder:
    found = decoder_of({**SIZES, "model_type": kind, **more})
    assert found is not None
    return found


def test_sizes_are_read_as_transformers_reads_them() -> None:
    llama = decoder("llama", num_key_value_heads=2)
    assert (llama.query, llama.key_value, llama.head_dim) == (64, 16, 8)
    assert (llama.layers, llama.hidden, llama.intermediate, llama.vocab) == (4, 64, 96, 128)
    assert decoder("gemma").key_value == 16 * 256
    assert decoder("qwen3").head_dim == 128
    small = decoder_of({"model_type": "gpt2", "n_embd": 48, "n_layer": 3, "n_head": 4, "vocab_size": 99})
    assert small is not None
    assert (small.hidden, small.intermediate, small.positions, small.tied) == (48, 192, 1024, True)


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("llama", {}, {"gated_mlp": True, "norm": "rms", "norms": 2, "attention_bias": "none"}),
        ("llama", {"attention_bias": True}, {"attention_bias": "all"}),
        ("mistral", {"attention_bias": True}, {"attention_bias": "none", "sliding_window": 4096}),
        ("qwen2", {}, {"attention_bias": "qkv", "query_key_norm": False}),
        ("qwen3", {}, {"attention_bias": "none", "query_key_norm": True}),
        ("gemma", {}, {"norm": "gemma", "tied": True, "activation": "gelu_pytorch_tanh"}),
        ("gemma2", {}, {"norms": 4, "attention_softcap": True, "final_softcap": True}),
        ("gemma2", {"final_logit_softcapping": None}, {"final_softcap": False}),
        ("gemma3_text", {}, {"norms": 4, "query_key_norm": True, "final_softcap": False}),
        ("phi", {}, {"norm": "layer", "norms": 1, "parallel_residual": True, "gated_mlp": False}),
        ("phi3", {}, {"fused_projections": True, "norm": "rms"}),
        ("gpt2", {}, {"norm": "layer", "residual_dropout": True, "attention_dropout": True}),
        ("gpt2", {"attn_pdrop": 0.0}, {"attention_dropout": False}),
        ("gpt_neox", {}, {"parallel_residual": True, "residual_dropout": False}),
        ("gpt_neox", {"use_parallel_residual": False, "hidden_dropout": 0.1}, {"residual_dropout": True}),
        ("mixtral", {}, {"experts": 8, "experts_per_token": 2, "expert_intermediate": 96}),
        ("qwen2_moe", {}, {"experts": 60, "expert_intermediate": 1408, "shared_intermediate": 5632}),
        ("qwen3_moe", {"decoder_sparse_step": 2}, {"dense_layers": frozenset({0, 2})}),
        ("qwen3_moe", {"mlp_only_layers": [3]}, {"dense_layers": frozenset({3})}),
    ],
)
def test_properties_of_known_types(kind: str, more: dict[str, Any], expected: dict[str, Any]) -> None:
    found = decoder(kind, **more)
    assert {name: getattr(found, name) for name in expected} == expected
    assert not found.is_generic


def test_text_part_of_a_multimodal_model_is_read() -> None:
    found = decoder_of({"model_type": "gemma3", "text_config": {**SIZES, "model_type": "gemma3_text"}})
    assert found == decoder("gemma3_text")
    assert decoder_of({"model_type": "gemma3", "text_config": SIZES}) == found


def test_unknown_types_are_read_by_the_usual_names_and_marked() -> None:
    found = decoder("olmo2", rms_norm_eps=1e-5, num_key_value_heads=4)
    assert (found.is_generic, found.gated_mlp, found.norm, found.key_value_heads) == (True, True, "rms", 4)
    mpt = decoder_of({"model_type": "mpt", "d_model": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 10})
    assert mpt is not None
    assert (mpt.is_generic, mpt.gated_mlp, mpt.norm, mpt.intermediate) == (True, False, "layer", 256)
    assert decoder("deepseek", n_routed_experts=16, num_experts_per_tok=4).experts == 16


@pytest.mark.parametrize(
    "config",
    [{}, {"model_type": "bert"}, {"model_type": "x", "text_config": {}}, {**SIZES, "hidden_size": "64"}],
)
def test_models_without_sizes_have_no_decoder(config: dict[str, Any]) -> None:
    assert decoder_of(config) is None
