"""Packing of documents into sequences of one length."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.support.training_data import BYTE_OFFSET, EOS, packed, refusal_of, write_jsonl
from zpipe.train.formats import IGNORED


def test_documents_are_concatenated_and_cut(tokenizer: Any, tmp_path: Path) -> None:
    texts = [f"document {number} " * (number % 7 + 1) for number in range(1000)]
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    rows = packed(tokenizer, path=path, max_length=64)
    ids = np.concatenate([[*(byte + BYTE_OFFSET for byte in text.encode()), EOS] for text in texts])
    assert rows["input_ids"].shape == (len(ids) // 64, 64)
    assert (rows["input_ids"].ravel() == ids[: rows["input_ids"].size]).all()
    assert (rows["labels"] == rows["input_ids"]).all()


def test_sequences_without_trainable_tokens_are_dropped(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "p" * 100, "completion": "c" * 27}])
    rows = packed(tokenizer, path=path, max_length=32)
    assert rows["labels"].shape == (1, 32)
    assert (rows["labels"][:, 1:] != IGNORED).any(axis=1).all()


def test_max_samples_keeps_the_first_examples(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"{number:07}"} for number in range(50)])
    assert len(packed(tokenizer, path=path, max_length=8, max_samples=3)["input_ids"]) == 3


def test_prompts_without_completions_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "hi " * 50}]}] * 4
    problem = refusal_of(tokenizer, path=write_jsonl(tmp_path / "a.jsonl", rows), max_length=8)
    assert (problem.key, problem.fix) == ("data.path", "data.completion_only=false")
    assert "no trainable token" in problem.reason


def test_too_little_text_is_refused_with_the_length_that_fits(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x" * 99}])
    problem = refusal_of(tokenizer, path=path, max_length=1024)
    assert (problem.key, problem.value) == ("data.max_length", 1024)
    assert problem.fix == "data.max_length=96, or data.packing=none"
    assert len(packed(tokenizer, path=path, max_length=96)["input_ids"]) == 1


def test_a_refusal_leaves_no_file_in_the_cache(tokenizer: Any, tmp_path: Path, cache: Path) -> None:
    refusal_of(tokenizer, path=write_jsonl(tmp_path / "a.jsonl", [{"text": "1234567"}]), max_length=64)
    assert not list((cache / "zpipe").iterdir())
