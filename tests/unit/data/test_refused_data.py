"""Data files and folders that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.training_data import refusal_of, write_jsonl


def test_a_missing_file_is_refused_with_a_similar_name(tokenizer: Any, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"text": "x"}])
    problem = refusal_of(tokenizer, path=str(tmp_path / "trian.jsonl"))
    assert problem.key == "data.path"
    assert str(tmp_path / "train.jsonl") in problem.reason


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(tokenizer: Any, tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    assert refusal_of(tokenizer, path=str(file)).key == "data.path"


@pytest.mark.parametrize("line", ['{"text": "cut', "not json", '["an array"]', "{'text': 'single quotes'}"])
def test_a_malformed_line_is_refused_with_its_number(tokenizer: Any, tmp_path: Path, line: str) -> None:
    lines = [json.dumps({"text": f"line {number}"}) for number in range(1, 21)]
    lines[6] = line
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(lines) + "\n")
    problem = refusal_of(tokenizer, path=str(file))
    assert problem.key == "data.path"
    assert f"line 7 of {file} is not" in problem.reason


def test_a_folder_with_several_formats_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    (tmp_path / "b.txt").write_text("x")
    assert "json, text" in refusal_of(tokenizer, path=str(tmp_path)).reason


@pytest.mark.parametrize("name", ["some/data-set", "wikitext"])
def test_an_offline_hub_id_is_refused(tokenizer: Any, name: str) -> None:
    problem = refusal_of(tokenizer, path=name)
    assert problem.key == "data.path"
    assert "hub" in problem.reason


def test_a_missing_path_is_refused(tokenizer: Any) -> None:
    assert refusal_of(tokenizer).key == "data.path"
