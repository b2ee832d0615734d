"""The formulas of zpipe/memory/activations.py are those of the models of transformers, measured on the CPU.

The kernels of the CPU keep what those of CUDA keep. The statistics of torch.nn.LayerNorm are in fp32 on CUDA.
"""

from typing import Any

import pytest

from zpipe.facts.decoder import decoder_of
from zpipe.facts.model_types import DEFAULTS
from zpipe.memory.activations import LayerActivations, layer_activations

pytestmark = pytest.mark.real

SIZES: dict[str, Any] = {
    "hidden_size": 240,
    "intermediate_size": 320,
    "num_attention_heads": 6,
    "vocab_size": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
GROUPED = {"num_key_value_heads": 2}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 112, "shared_expert_intermediate_size": 144}
OPTIONAL = {
    **GROUPED,
    **EXPERTS,
    "num_experts": 8,
    "head_dim": 48,
    "resid_pdrop": 0.0,
    "attention_dropout": 0.0,
}
NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}


def config_of(kind: str, **more: Any) -> dict[str, Any]:
    optional = {name: value for name, value in OPTIONAL.items() if name in DEFAULTS[kind]}
    if kind in ("phi", "phi3"):  # the head's size follows from the hidden size
        del optional["head_dim"]
    dropout = NO_DROPOUT if kind == "gpt2" else {}
    return {"model_type": kind, **SIZES, **optional, **dropout, **more}


def predicted(
    config: dict[str, Any], attention: str, sequence: int, element_bytes: int = 2
) -> LayerActivations:
    decoder = decoder_of({**config, "num_hidden_layers": 3})
    assert decoder is not None
    return layer_activations(
        decoder, attention=attention, liger=False, element_bytes=element_bytes, sequence=sequence
    )


def check(config: dict[str, Any], attention: str, sequence: int = 101, dtype: str = "bfloat16") -> None:
    import torch

    from tests.support.live_bytes import measure

    formula = predicted(config, attention, sequence, getattr(torch, dtype).itemsize)
    measured = measure(config, attention, sequence=sequence, dtype=getattr(torch, dtype))
    assert formula.kept == pytest.approx(measured.kept, rel=0.01)
    within = 0.025 * measured.kept
    assert formula.forward_transient == pytest.approx(measured.forward_transient, abs=within)
    assert formula.backward_transient == pytest.approx(measured.backward_transient, abs=within)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", DEFAULTS)
def test_known_types(kind: str, attention: str) -> None:
    if (kind, attention) == ("gemma2", "sdpa"):
        pytest.skip("transformers has no such attention for gemma2")
    check(config_of(kind), attention)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_wide_mlp(kind: str) -> None:
    wide = {"moe_intermediate_size": 800} if "moe_intermediate_size" in DEFAULTS[kind] else {}
    wide |= {"n_inner": 1200} if kind == "gpt2" else {}
    check(config_of(kind, **{**wide, "intermediate_size": 1200}), "eager" if kind == "gemma2" else "sdpa")


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gemma3_text", "phi", "phi3", "gpt2", "qwen3_moe"])
def test_scores_of_a_long_sequence(kind: str) -> None:
    check(config_of(kind), "eager", sequence=607)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "phi3", "gpt2", "gpt_neox", "mixtral", "qwen2_moe"])
def test_fp32(kind: str, attention: str) -> None:
    check(config_of(kind), attention, dtype="float32")


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_new", "gelu_fast", "quick_gelu", "silu"])
@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_activation_functions(kind: str, activation: str) -> None:
    check(config_of(kind, hidden_act=activation), "sdpa")


@pytest.mark.parametrize(
    "config",
    [
        config_of("gpt_neox", use_parallel_residual=False),
        config_of("phi", qk_layernorm=True),
        config_of("mistral", sliding_window=50),
        config_of("mistral", sliding_window=50, num_key_value_heads=6),
        config_of("qwen3_moe", num_experts_per_tok=5),
        config_of("mixtral", num_local_experts=3),
    ],
    ids=lambda each: each["model_type"],
)
def test_other_settings(config: dict[str, Any]) -> None:
    check(config, "sdpa")
