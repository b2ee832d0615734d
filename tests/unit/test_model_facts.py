"""A model's sizes from its configuration, beside the model that transformers builds from it."""

from pathlib import Path

import pytest

from zpipe.facts.model import model_facts
from zpipe.problems import Refusal
from zpipe.schema.model import Model

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": 128,
}


@pytest.mark.parametrize(
    "more",
    [
        {"model_type": "llama"},
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2},
        {"model_type": "mistral", "num_attention_heads": 16},
        {"model_type": "qwen2", "num_attention_heads": 32},
        {"model_type": "qwen3", "num_attention_heads": 32},
        {"model_type": "qwen3", "num_key_value_heads": 2, "attention_bias": True, "head_dim": 16},
    ],
)
def test_parameters_are_counted_as_transformers_builds_them(more: dict[str, object]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = {**SIZES, **more}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    assert model_facts(Model(config=config)).parameters == sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize("value", [None, "abc", 0])
def test_a_size_that_is_none_is_refused_by_its_key(value: object) -> None:
    with pytest.raises(Refusal) as refused:
        model_facts(Model(config={**SIZES, "model_type": "llama", "hidden_size": value}))
    assert [problem.key for problem in refused.value.problems] == ["model.config.hidden_size"]


@pytest.mark.parametrize("weights", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_weights_that_are_none_are_refused_by_their_file(tmp_path: Path, weights: bytes) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_embd": 8, "n_positions": 16}')
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(Refusal, match=r"model\.safetensors"):
        model_facts(Model(name_or_path=str(tmp_path)))


@pytest.mark.parametrize("config", ["[1]", '{"hidden_size": null}'])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(Refusal, match=r"config\.json"):
        model_facts(Model(name_or_path=str(tmp_path)))
