"""The weights of a model folder are those of the model, or the plan says what is wrong with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from zpipe.facts.model import inspect_model
from zpipe.problems import Refusal
from zpipe.schema.model import Model

CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 32,
}
BLOCK = "model.layers.0"
WEIGHTS = {
    "model.embed_tokens.weight": (32, 8),
    "model.norm.weight": (8,),
    f"{BLOCK}.input_layernorm.weight": (8,),
    f"{BLOCK}.post_attention_layernorm.weight": (8,),
    **{f"{BLOCK}.self_attn.{name}_proj.weight": (8, 8) for name in "qkvo"},
    f"{BLOCK}.mlp.gate_proj.weight": (16, 8),
    f"{BLOCK}.mlp.up_proj.weight": (16, 8),
    f"{BLOCK}.mlp.down_proj.weight": (8, 16),
    "lm_head.weight": (32, 8),
}


def folder_with(
    folder: Path, weights: dict[str, tuple[int, ...]], name: str = "model.safetensors", **config: object
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    save_file({key: np.zeros(shape, dtype=np.float32) for key, shape in weights.items()}, folder / name)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(Refusal) as caught:
        inspect_model(Model(name_or_path=str(folder)))
    (problem,) = caught.value.problems
    assert problem.key == "model.name_or_path"
    return problem.reason


def test_weights_of_the_model_are_accepted_with_and_without_its_prefix(tmp_path: Path) -> None:
    bare = {name.removeprefix("model."): shape for name, shape in WEIGHTS.items()}
    for name, weights in (("full", WEIGHTS), ("bare", bare)):
        assert inspect_model(Model(name_or_path=str(folder_with(tmp_path / name, weights)))).facts.parameters


@pytest.mark.parametrize("prefix", ["_forward_module.", "module.", "_orig_mod."])
def test_weights_of_a_wrapper_are_refused_by_name(prefix: str, tmp_path: Path) -> None:
    reason = refusal(folder_with(tmp_path, {f"{prefix}{name}": shape for name, shape in WEIGHTS.items()}))
    assert reason.startswith("none of the 12 weights")
    assert f"{prefix}lm_head.weight" in reason or f"{prefix}model." in reason


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_missing_weight_is_named(name: str, tmp_path: Path) -> None:
    kept = {each: shape for each, shape in WEIGHTS.items() if each != name}
    assert f"lack {name.removeprefix('model.')}, which would" in refusal(folder_with(tmp_path, kept))


def test_tied_weights_need_no_head(tmp_path: Path) -> None:
    kept = {name: shape for name, shape in WEIGHTS.items() if name != "lm_head.weight"}
    folder = folder_with(tmp_path, kept, tie_word_embeddings=True)
    assert inspect_model(Model(name_or_path=str(folder))).unexpected == ()


def test_weights_that_the_model_does_not_have_are_named(tmp_path: Path) -> None:
    more = {"model.layers.1.mlp.up_proj.weight": (16, 8), f"{BLOCK}.self_attn.rotary_emb.inv_freq": (2,)}
    folder = folder_with(tmp_path, WEIGHTS | more)
    assert inspect_model(Model(name_or_path=str(folder))).unexpected == ("model.layers.1.mlp.up_proj.weight",)


def test_missing_weights_are_counted(tmp_path: Path) -> None:
    kept = {name: shape for name, shape in WEIGHTS.items() if "mlp" not in name}
    assert "and 2 more, which would start at random" in refusal(folder_with(tmp_path, kept))


def test_empty_weights_of_zero3_are_refused(tmp_path: Path) -> None:
    assert "zero_to_fp32.py" in refusal(folder_with(tmp_path, {**WEIGHTS, "lm_head.weight": (0,)}))


def test_other_shapes_are_refused_with_both(tmp_path: Path) -> None:
    reason = refusal(folder_with(tmp_path, {**WEIGHTS, "model.embed_tokens.weight": (30, 8)}))
    assert "embed_tokens.weight is 30 x 8 in the file, 32 x 8 by config.json" in reason


def test_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    folder_with(tmp_path, WEIGHTS)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in refusal(tmp_path)


def test_other_weight_files_do_not_count(tmp_path: Path) -> None:
    for name in ("model.safetensors", "consolidated.safetensors", "adapter_model.safetensors"):
        folder_with(tmp_path, WEIGHTS, name, model_type="other")
    numels = inspect_model(Model(name_or_path=str(tmp_path))).parameter_numels
    assert numels is not None
    assert len(numels) == len(WEIGHTS)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"a": "../outside.safetensors"}, "outside the folder"),
        ({"a": "/etc/passwd"}, "outside the folder"),
        ({"a": "gone.safetensors"}, "which the folder does not have"),
        ({}, "no weight_map"),
        ({"a": 3}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
def test_index_that_names_no_files_of_the_folder_is_refused(
    names: object, reason: str, tmp_path: Path
) -> None:
    folder_with(tmp_path, WEIGHTS, "part.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert reason in refusal(tmp_path)


@pytest.mark.parametrize(
    ("file", "reason"),
    [("adapter_config.json", "PEFT adapter"), ("model.gguf", "GGUF"), ("latest", "zero_to_fp32.py")],
)
def test_folders_of_another_format_are_named(file: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    assert reason in refusal(tmp_path)


@pytest.mark.parametrize("config", ["[", "[" * 100_000, "\x00", "null", '{"a": ' + "9" * 6000 + "}"])
def test_damaged_config_json_is_refused(config: str, tmp_path: Path) -> None:
    folder_with(tmp_path, WEIGHTS)
    (tmp_path / "config.json").write_text(config)
    assert "config.json" in refusal(tmp_path)


def test_huge_number_of_layers_is_refused_at_once() -> None:
    with pytest.raises(Refusal, match="num_hidden_layers"):
        inspect_model(Model(config={**CONFIG, "num_hidden_layers": 10_000_000}))


def test_tensors_that_transformers_joins_while_loading_are_accepted(tmp_path: Path) -> None:
    expert = f"{BLOCK}.block_sparse_moe.experts.0.w1.weight"
    folder = folder_with(tmp_path, {expert: (16, 8)}, model_type="mixtral", num_key_value_heads=2)
    inspected = inspect_model(Model(name_or_path=str(folder)))
    assert inspected.unexpected == ()
    assert inspected.parameter_numels is not None
    assert 8 * 2 * 16 * 8 in inspected.parameter_numels
