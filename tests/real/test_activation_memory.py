"""The formulas of zpipe/memory/activations.py are those of the models of transformers, measured on the CPU.

The kernels of the CPU keep what those of CUDA keep. The statistics of torch.nn.LayerNorm are in fp32 on CUDA.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest

from tests.support.process import REPOSITORY
from zpipe.facts.decoder import decoder_of
from zpipe.facts.model_types import DEFAULTS
from zpipe.memory.activations import LayerActivations, default_attention, layer_activations, without_experts

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
    config: dict[str, Any], attention: str, sequence: int, element_bytes: int = 2, liger: bool = False
) -> LayerActivations:
    decoder = decoder_of({**config, "num_hidden_layers": 3})
    assert decoder is not None
    return layer_activations(
        without_experts(decoder) if 1 in decoder.dense_layers else decoder,
        attention=attention,
        liger=liger,
        element_bytes=element_bytes,
        sequence=sequence,
    )


def check(config: dict[str, Any], attention: str, sequence: int = 101, dtype: str = "bfloat16") -> None:
    import torch

    from tests.support.live_bytes import measure

    formula = predicted(config, attention, sequence, getattr(torch, dtype).itemsize)
    compare(formula, asdict(measure(config, attention, sequence=sequence, dtype=getattr(torch, dtype))))


def compare(formula: LayerActivations, measured: dict[str, float]) -> None:
    kept = measured["kept"]
    assert formula.kept == pytest.approx(kept, rel=0.01)
    for name in ("forward_transient", "backward_transient"):
        assert getattr(formula, name) == pytest.approx(measured[name], abs=0.025 * kept), name


@pytest.mark.parametrize(
    ("kind", "attention"),
    [(kind, each) for kind in DEFAULTS for each in ("sdpa", "eager") if (kind, each) != ("gemma2", "sdpa")],
)
def test_known_types(kind: str, attention: str) -> None:
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
        config_of("qwen3_moe", mlp_only_layers=[1]),
        config_of("mixtral", num_local_experts=3),
    ],
    ids=lambda each: each["model_type"],
)
def test_other_settings(config: dict[str, Any]) -> None:
    check(config, "sdpa")


LIGER = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "mixtral",
    "qwen3_moe",
]


def test_liger() -> None:
    configs = [
        *(config_of(kind) for kind in LIGER),
        *(config_of(kind, intermediate_size=1200) for kind in LIGER),
        config_of("qwen3_moe", mlp_only_layers=[1]),
    ]
    attentions = [default(config) for config in configs]
    arguments = [f"{kind}={json.dumps(config)}" for kind, config in zip(attentions, configs, strict=True)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.liger_layers", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for config, attention, measured in zip(configs, attentions, json.loads(done.stdout), strict=True):
        compare(predicted(config, attention, 101, liger=True), measured)


def default(config: dict[str, Any]) -> str:
    decoder = decoder_of({**config, "num_hidden_layers": 3})
    assert decoder is not None
    return default_attention(decoder)


def test_soft_cap_of_the_logits_keeps_a_tensor_of_their_size() -> None:
    from tests.support.live_bytes import measure_forward

    capped, plain = (
        measure_forward(config_of("gemma2", vocab_size=2048, final_logit_softcapping=cap), "eager")
        for cap in (30.0, None)
    )
    assert capped - plain == pytest.approx(2 * 2048)
