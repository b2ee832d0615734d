"""Helpers for tests of the training data: write files, pack them and decode the result."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data
from zpipe.train.data import prepare
from zpipe.train.formats import COLUMNS, IGNORED, Document, documents
from zpipe.train.tokens import Encoder

EOS = 1
"""The eos id of the byte-level tokenizer."""
BYTE_OFFSET = 3
"""The id of byte 0 in the byte-level tokenizer."""

CONVERSATION = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "see you"},
]


class FakeReporter:
    """Collects the texts that a Reporter would write as events."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def phase(self, name: str, detail: str = "") -> None:
        self.texts.append(detail)

    def notice(self, text: str) -> None:
        self.texts.append(text)


def write_jsonl(path: Path, rows: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def packed(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    """The packed sequences of the `data` group with these settings, as arrays of shape (n, max_length)."""
    path, _ = prepare(Data(**settings), tokenizer, FakeReporter())  # type: ignore[arg-type]
    columns: dict[str, Any] = datasets.Dataset.from_file(str(path)).with_format("numpy")[:]
    return columns


def refusal_of(tokenizer: Any, **settings: Any) -> Problem:
    """The problem that the `data` group with these settings is refused with."""
    with pytest.raises(Refusal) as caught:
        prepare(Data(**settings), tokenizer, FakeReporter())  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    return problem


def document(tokenizer: Any, layout: str, row: tuple[Any, ...], **settings: Any) -> Document:
    """The document of one row."""
    batch = {name: [value] for name, value in zip(COLUMNS[layout], row, strict=True)}
    encoder = Encoder.from_tokenizer(tokenizer)
    ((found,),) = documents(iter([batch]), layout, Data(**settings), encoder)
    return found


def decoded(ids: Any) -> str:
    """The text of byte-level ids, without special tokens."""
    return bytes(int(each) - BYTE_OFFSET for each in ids if each >= BYTE_OFFSET).decode()


def trained_ids(found: Document) -> Any:
    """The ids that count in the loss; checks that every label is its id or -100."""
    assert ((found.labels == found.ids) | (found.labels == IGNORED)).all()
    return found.ids[found.labels != IGNORED]
