"""Helpers for tests of the training data: write files, pack them and decode the result."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from zpipe.data.layouts import LAYOUTS
from zpipe.data.row import Row
from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data
from zpipe.train.data import Prepared, prepare
from zpipe.train.formats import IGNORED, Document, Documents
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


def prepared(tokenizer: Any, **settings: Any) -> Prepared:
    """The packed sequences of the `data` group with these settings."""
    return prepare(Data(**settings), tokenizer, FakeReporter())  # type: ignore[arg-type]


def packed(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    """The packed sequences of the `data` group with these settings, as arrays of shape (n, max_length)."""
    path = prepared(tokenizer, **settings).path
    columns: dict[str, Any] = datasets.Dataset.from_file(str(path)).with_format("numpy")[:]
    return columns


def refusal_of(tokenizer: Any, **settings: Any) -> Problem:
    """The problem that the `data` group with these settings is refused with."""
    with pytest.raises(Refusal) as caught:
        prepared(tokenizer, **settings)
    (problem,) = caught.value.problems
    return problem


def document(tokenizer: Any, layout: str, row: tuple[Any, ...], **settings: Any) -> Document:
    """The document of one row."""
    values = dict(zip(LAYOUTS[layout], row, strict=True))
    reader = Documents(layout, Data(**settings), Encoder.from_tokenizer(tokenizer))
    ((found,),) = reader.read([Row(values, values.keys(), "row 1")])
    return found


def decoded(ids: Any) -> str:
    """The text of byte-level ids, without special tokens."""
    return bytes(int(each) - BYTE_OFFSET for each in ids if each >= BYTE_OFFSET).decode()


def trained_ids(found: Document) -> Any:
    """The ids that count in the loss; checks that every label is its id or -100."""
    assert ((found.labels == found.ids) | (found.labels == IGNORED)).all()
    return found.ids[found.labels != IGNORED]
