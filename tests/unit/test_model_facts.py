"""Model sizes from a configuration, from weight files and from the hub's cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import REPOSITORY
from zpipe.facts.model import inspect_model
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
def test_parameter_count_equals_that_of_the_transformers_model(more: dict[str, object]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = {**SIZES, **more}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    assert inspect_model(Model(config=config)).facts.parameters == sum(
        each.numel() for each in model.parameters()
    )


@pytest.mark.parametrize("value", [None, "abc", 0])
def test_invalid_size_is_refused(value: object) -> None:
    with pytest.raises(Refusal) as refused:
        inspect_model(Model(config={**SIZES, "model_type": "llama", "hidden_size": value}))
    assert [problem.key for problem in refused.value.problems] == ["model.config.hidden_size"]


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"model_type": "gpt2", "n_layer": 0}, "n_layer"),
        ({"model_type": "gpt2", "n_head": "12"}, "n_head"),
        ({**SIZES, "model_type": "mixtral", "num_local_experts": 0}, "num_local_experts"),
        ({**SIZES, "model_type": "qwen3_moe", "decoder_sparse_step": 0}, "decoder_sparse_step"),
    ],
)
def test_invalid_size_is_refused_under_the_name_of_its_model_type(
    config: dict[str, object], key: str
) -> None:
    with pytest.raises(Refusal) as refused:
        inspect_model(Model(config=config))
    assert [problem.key for problem in refused.value.problems] == [f"model.config.{key}"]


def test_keys_that_a_model_type_does_not_read_may_have_any_value() -> None:
    assert inspect_model(Model(config={**SIZES, "model_type": "llama", "num_experts": 0})).facts.parameters


def safetensors_file(**shapes: list[int]) -> bytes:
    """A file of float32 zeros, without numpy or torch."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


WEIGHTS = safetensors_file(a=[2, 3], b=[8, 8])


def model_folder(folder: Path, weights: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_embd": 8, "n_positions": 16}')
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_parameters_are_counted_from_weight_files(tmp_path: Path) -> None:
    assert inspect_model(Model(name_or_path=str(model_folder(tmp_path, WEIGHTS)))).facts.parameters == 6 + 64


@pytest.mark.parametrize(
    "weights",
    [b"", b"version https://git-lfs.github.com/spec/v1\n", WEIGHTS[:20], WEIGHTS[:-1]],
    ids=["empty", "git-lfs pointer", "truncated header", "truncated data"],
)
def test_unreadable_weight_file_is_refused(tmp_path: Path, weights: bytes) -> None:
    model_folder(tmp_path, weights)
    with pytest.raises(
        Refusal, match=r"cannot read model\.safetensors: .* incomplete download|is a git-lfs pointer"
    ):
        inspect_model(Model(name_or_path=str(tmp_path)))


@pytest.mark.parametrize("config", ["[1]", '{"hidden_size": null}'])
def test_invalid_config_json_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(Refusal, match=r"config\.json"):
        inspect_model(Model(name_or_path=str(tmp_path)))


def test_invalid_hub_id_is_refused() -> None:
    with pytest.raises(Refusal, match="neither a folder nor a valid hub id"):
        inspect_model(Model(name_or_path="my/models/llama"))


def test_cached_hub_model_is_read_without_torch(tmp_path: Path) -> None:
    cached = tmp_path / "models--org--small"
    model_folder(cached / "snapshots" / "abc", WEIGHTS)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    code = (
        "import sys; from zpipe.facts.model import inspect_model; from zpipe.schema.model import Model;"
        "names = 'org/small', 'org/unseen';"
        "print([inspect_model(Model(name_or_path=name)).facts.parameters for name in names]);"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[70, None]\n"), done.stderr
