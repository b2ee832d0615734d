"""The forward pass that verifies an export computes what the loaded model computes, part by part or whole."""

from pathlib import Path
from typing import Any

import pytest
import torch

from zpipe.train.export.expected import expected_tensors
from zpipe.train.export.forward import ForwardPasses, check_loading
from zpipe.train.export.streaming import StreamedModel, logits_of
from zpipe.train.export.weights import SavedWeights

pytestmark = pytest.mark.real

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "vocab_size": 256,
    "rotary_dim": 8,
    "pad_token_id": 0,
}


def saved(architecture: str, folder: Path) -> Any:
    """Random weights in the folder, and the model that transformers loads from it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    default = AutoConfig.for_model(architecture)
    names = {*vars(default), *getattr(default, "attribute_map", {})}
    torch.manual_seed(0)
    sizes = {name: size for name, size in SIZES.items() if name in names}
    config = AutoConfig.for_model(architecture, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj", "gemma2", "mixtral"])
def test_logits_are_those_of_the_loaded_model(architecture: str, tmp_path: Path) -> None:
    loaded, expected = saved(architecture, tmp_path), expected_tensors(tmp_path)
    check_loading(tmp_path)
    weights = SavedWeights(tmp_path)
    streamed = StreamedModel(tmp_path, torch.float32, expected.tied)
    assert streamed.fits(weights) == (architecture != "mixtral")  # whose files have other names
    assert torch.equal(ForwardPasses(tmp_path, "fp32", expected).logits(weights), logits_of(loaded))
    if streamed.fits(weights):
        assert torch.equal(streamed.logits(weights), logits_of(loaded))
        assert all(parameter.is_meta for parameter in streamed.model.parameters())
