"""A model folder whose other files do not fit is refused in the plan."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support.planning import plan_of, problems_of
from tests.unit.test_weights import CONFIG, WEIGHTS
from zpipe.problems import Problem

Break = Callable[[Path], object]
VOCABULARY = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 31}}}


def model_folder(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps(VOCABULARY))
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in WEIGHTS.items()}
    save_file(weights, folder / "model.safetensors")
    return folder


def found(folder: Path) -> list[Problem]:
    return problems_of(f"model.name_or_path={folder}")


def test_a_whole_folder_is_accepted(tmp_path: Path) -> None:
    assert found(model_folder(tmp_path)) == []


def write(name: str, content: object) -> Break:
    text = content if isinstance(content, str) else json.dumps(content)
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
        (write("tokenizer.json", "{"), "tokenizer.json is not JSON"),
        (write("tokenizer_config.json", []), "tokenizer_config.json is not a mapping"),
        (write("tokenizer.json", {"model": {"vocab": {"a": 32}}}), "largest id of the tokenizer is 32"),
        (write("tokenizer.json", {"model": {"vocab": [["a", 0]] * 40}}), "the tokenizer is 39"),
        (write("tokenizer.json", {**VOCABULARY, "added_tokens": [{"id": 33}]}), "the tokenizer is 33"),
        (write("tokenizer_config.json", {"added_tokens_decoder": {"34": {}}}), "the tokenizer is 34"),
        (write("generation_config.json", "{'a'"), "generation_config.json is not JSON"),
        (write("adapter_config.json", {}), "adapter_config.json lies beside"),
    ],
)
def test_files_that_do_not_fit_are_named(break_it: Break, reason: str, tmp_path: Path) -> None:
    break_it(model_folder(tmp_path))
    (problem,) = found(tmp_path)
    assert reason in problem.reason
    assert problem.key in ("model.tokenizer", "model.name_or_path")


def test_weights_that_the_model_does_not_have_are_a_warning(tmp_path: Path) -> None:
    (model_folder(tmp_path) / "config.json").write_text(json.dumps(CONFIG))
    extra = {f"vision.{index}": np.zeros(1, dtype=np.float32) for index in range(5)}
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in WEIGHTS.items()}
    save_file(weights | extra, tmp_path / "model.safetensors")
    texts = [notice.text for notice in plan_of(f"model.name_or_path={tmp_path}").notices]
    assert any("vision.0, vision.1, vision.2 and 2 more" in text for text in texts)
