"""What the plan refuses of an architecture is what transformers refuses, or fails on in a step."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.planning import problems_of
from zpipe.facts.architecture import activations, architecture, causal_types

BASE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROTATION = {"rope_type": "default", "rope_theta": 10000.0}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "v_head_dim": 8}
LATENT |= {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
GOOD = [
    {"model_type": "llama"},
    {"model_type": "llama", "rms_norm_eps": 1e-5, "hidden_act": "relu", "attention_dropout": 0},
    {"model_type": "phi", "partial_rotary_factor": 0.5},
    {"model_type": "phi3", "partial_rotary_factor": 0.45, "pad_token_id": 0},
    {"model_type": "gpt_neox", "rotary_pct": 0.45, "hidden_size": 60, "num_key_value_heads": None},
    {"model_type": "mixtral", **EXPERTS},
    {"model_type": "qwen3", "head_dim": 16, "layer_types": ["full_attention"] * 2},
    {"model_type": "gemma2", "head_dim": 16, "sliding_window": 8},
    {"model_type": "llama", "attn_pdrop": 2},
    {"model_type": "mistral", "rope_theta": None, "rope_parameters": ROTATION},
    {"model_type": "glm4_moe", "num_attention_heads": 3, "num_key_value_heads": 3},
    {"model_type": "deepseek_v3", "num_key_value_heads": 3, **LATENT},
]
BAD = [
    ({"model_type": "llama", "head_dim": 7}, "head_dim"),
    ({"model_type": "llama", "hidden_size": 60}, "hidden_size"),
    ({"model_type": "llama", "hidden_size": 60, "partial_rotary_factor": 0.5}, "hidden_size"),
    ({"model_type": "phi", "partial_rotary_factor": 0.45}, "partial_rotary_factor"),
    ({"model_type": "phi", "hidden_size": 60}, "hidden_size"),
    ({"model_type": "phi3", "partial_rotary_factor": 2, "pad_token_id": 0}, "partial_rotary_factor"),
    ({"model_type": "gpt_neox", "rotary_pct": 1.0, "hidden_size": 60}, "hidden_size"),
    ({"model_type": "mixtral", **EXPERTS, "num_experts_per_tok": 5}, "num_experts_per_tok"),
    ({"model_type": "mixtral", "num_local_experts": 1}, "num_experts_per_tok"),
    ({"model_type": "llama", "hidden_act": "foo"}, "hidden_act"),
    ({"model_type": "gemma2", "head_dim": 16, "hidden_activation": "foo"}, "hidden_activation"),
    ({"model_type": "llama", "rms_norm_eps": 1}, "rms_norm_eps"),
    ({"model_type": "llama", "rms_norm_eps": 10**400}, "rms_norm_eps"),
    ({"model_type": "llama", "tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ({"model_type": "llama", "hidden_act": 3}, "hidden_act"),
    ({"model_type": "llama", "rope_scaling": [1]}, "rope_scaling"),
    ({"model_type": "llama", "rope_theta": "a"}, "rope_theta"),
    ({"model_type": "llama", "rope_parameters": {"rope_type": "foo"}}, "rope_parameters.rope_type"),
    ({"model_type": "llama", "rope_parameters": {"rope_type": "llama3"}}, "rope_parameters.rope_type"),
    ({"model_type": "qwen3", "head_dim": 16, "layer_types": ["full_attention"]}, "layer_types"),
    ({"model_type": "mistral", "sliding_window": 0}, "sliding_window"),
    ({"model_type": "gemma2", "head_dim": 16, "sliding_window": None}, "sliding_window"),
    ({"model_type": "mistral", "attention_dropout": 1.5}, "attention_dropout"),
]


def typed(value: object) -> str:
    """As Hydra reads it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {typed(each)}' for name, each in value.items())}}}"
    return json.dumps(value).replace('"', "'")


def refused(config: dict[str, Any]) -> list[str]:
    overrides = f"model.config={typed(BASE | config)}", "data.max_length=64"
    return [problem.key for problem in problems_of(*overrides)]


def fails(config: dict[str, Any]) -> bool:
    """Whether transformers cannot build the model, or compute a loss with it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    ids = torch.arange(64).unsqueeze(0)
    try:
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**json.loads(json.dumps(BASE | config)))
        )
        model(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids)).loss.backward()
    except Exception:
        return True
    return False


@pytest.mark.parametrize("config", GOOD, ids=str)
def test_values_that_transformers_takes_are_accepted(config: dict[str, Any]) -> None:
    assert (refused(config), fails(config)) == ([], False)


@pytest.mark.parametrize(("config", "name"), BAD, ids=str)
def test_values_that_fail_in_transformers_are_refused(config: dict[str, Any], name: str) -> None:
    assert (refused(config), fails(config)) == ([f"model.config.{name}"], True)


def test_activations_are_those_of_transformers() -> None:
    from transformers.activations import ACT2FN

    assert activations() == set(ACT2FN)


def test_the_types_of_fields_are_read_for_every_decoder() -> None:
    known = [each for each in map(architecture, causal_types()) if each is not None and each.is_strict]
    assert len(known) > len(causal_types()) // 2
    assert all(each.types for each in known)


def test_the_size_that_is_proposed_gives_heads_of_an_even_size() -> None:
    (problem,) = problems_of("model.config.num_attention_heads=5", "model.config.num_key_value_heads=5")
    assert (problem.value, problem.fix) == (384, "model.config.hidden_size=380")


@pytest.mark.parametrize("value", [["llama"], {}, 3, True])
def test_a_model_type_that_is_not_text_is_refused(value: object, tmp_path: Path) -> None:
    set_ = json.dumps(value).replace('"', "'")
    assert [each.key for each in problems_of(f"model.config.model_type={set_}")] == [
        "model.config.model_type"
    ]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": value}))
    (problem,) = problems_of(f"model.name_or_path={tmp_path}")
    assert "model_type" in problem.reason
