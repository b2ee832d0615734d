"""The cache of packed sequences, and its use by several ranks."""

import os
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.support.plans import begin_attempt
from tests.support.training_data import FakeReporter, decoded, write_jsonl
from zpipe.data.sources import local_source
from zpipe.schema.data import Data
from zpipe.schema.train import Train
from zpipe.train.data import Prepared, fingerprint, load_sequences, prepare
from zpipe.train.ranks import Rank
from zpipe.train.tokens import Encoder


def prepared(data: Data, tokenizer: Any) -> tuple[Prepared, list[str]]:
    """The packed sequences and the reported texts."""
    reporter = FakeReporter()
    return prepare(data, tokenizer, reporter), reporter.texts  # type: ignore[arg-type]


def test_a_second_run_uses_the_cache(tokenizer: Any, tmp_path: Path) -> None:
    data = Data(path=write_jsonl(tmp_path / "a.jsonl", [{"text": "1234567"}]), max_length=8)
    first, texts = prepared(data, tokenizer)
    written = first.path.stat().st_mtime_ns
    second, second_texts = prepared(data, tokenizer)
    assert second == first
    assert first.path.stat().st_mtime_ns == written
    assert any("cache" in text for text in second_texts)
    assert not any("cache" in text for text in texts)


def test_a_changed_setting_is_packed_again(tokenizer: Any, tmp_path: Path) -> None:
    data = Data(path=write_jsonl(tmp_path / "a.jsonl", [{"text": "1234567" * 9}]), max_length=8)
    changed = data.model_copy(update={"max_length": 9})
    assert prepared(data, tokenizer)[0].path != prepared(changed, tokenizer)[0].path


def test_a_changed_file_is_packed_again(tokenizer: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    data = Data(path=write_jsonl(file, [{"text": "1234567" * 9}]), max_length=8)
    first, _ = prepared(data, tokenizer)
    write_jsonl(file, [{"text": "7654321" * 9}])
    second, _ = prepared(data, tokenizer)
    assert second != first
    assert decoded(datasets.Dataset.from_file(str(second.path))[0]["input_ids"]) == "76543217"


def test_equal_files_in_two_folders_differ(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, size and modification time are equal, and the path is relative."""
    names = []
    for folder, text in (("one", "aaa"), ("two", "bbb")):
        path = Path(write_jsonl(tmp_path / folder / "train.jsonl", [{"text": text}]))
        os.utime(path, (1e9, 1e9))
        monkeypatch.chdir(path.parent)
        data = Data(path="train.jsonl")
        source = local_source(data)
        assert source is not None
        names.append(fingerprint(data, Encoder.from_tokenizer(tokenizer), source.stamp()))
    assert names[0] != names[1]


def test_other_ranks_load_what_rank_0_prepared(tokenizer: Any, tmp_path: Path) -> None:
    data = Data(path=write_jsonl(tmp_path / "a.jsonl", [{"text": "1234567" * 20}]), max_length=8)
    begin_attempt(tmp_path)

    class Plan:
        run_dir = str(tmp_path)
        experiment = type("E", (), {"data": data, "train": Train(seed=1)})

    plan: Any = Plan
    reporter: Any = FakeReporter()
    first, second = (
        load_sequences(plan, tokenizer, Rank(index, index, 2, "launch"), reporter) for index in (0, 1)
    )
    assert (first.train[:]["input_ids"] == second.train[:]["input_ids"]).all()
