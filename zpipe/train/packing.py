"""Arranges documents in sequences: joined and cut to one length, or one document per sequence."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from zpipe.schema.data import Data
from zpipe.train.formats import IGNORED, Document
from zpipe.train.tokens import Ids

Columns = tuple[list[Ids], list[Ids]]
"""The ids and the labels of some sequences; each entry has the shape (tokens,)."""


class Packer(ABC):
    """The counters cover the documents so far. `tokens` and `trainable_tokens` include what was dropped."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.tokens = self.trainable_tokens = 0
        self.documents = self.replies_cut = self.dropped = 0
        self.sequences = self.kept_tokens = 0

    def pack(self, batches: Iterable[list[Document]]) -> Iterator[Columns]:
        """Yields sequences of at most `length` tokens, each with a trainable token."""
        for batch in batches:
            for document in batch:
                self.documents += 1
                self.tokens += len(document.ids)
                self.trainable_tokens += int((document.labels != IGNORED).sum())
            yield from self._kept(self._arrange(batch))

    @abstractmethod
    def _arrange(self, batch: list[Document]) -> Iterator[Document]:
        """The sequences that a batch of documents completes."""

    @abstractmethod
    def notices(self) -> list[str]:
        """What the user should know about what was cut and dropped."""

    def _kept(self, sequences: Iterator[Document]) -> Iterator[Columns]:
        """Drops sequences without a trainable token, whose loss would be 0/0."""
        kept = []
        for each in sequences:
            # Models shift the labels, so the first token of a sequence is never predicted.
            if (each.labels[1:] != IGNORED).any():
                kept.append(each)
                self.sequences += 1
                self.kept_tokens += len(each.ids)
            else:
                self.dropped += 1
        if kept:
            yield [each.ids for each in kept], [each.labels for each in kept]


class Wrapped(Packer):
    """Joins the documents and cuts the result every `length` tokens. Drops the incomplete last sequence."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self._rest = Document(np.empty(0, np.int32), np.empty(0, np.int32))

    def _arrange(self, batch: list[Document]) -> Iterator[Document]:
        start = len(self._rest.ids)
        for document in batch:
            self.replies_cut += self._is_cut(document, start)
            start += len(document.ids)
        ids = np.concatenate([self._rest.ids, *(document.ids for document in batch)])
        labels = np.concatenate([self._rest.labels, *(document.labels for document in batch)])
        cut = len(ids) // self.length * self.length
        self._rest = Document(ids[cut:], labels[cut:])
        for begin in range(0, cut, self.length):
            yield Document(ids[begin : begin + self.length], labels[begin : begin + self.length])

    def _is_cut(self, document: Document, start: int) -> bool:
        """Whether a document starts with a prompt, and a part of its reply is in a later sequence."""
        first_end = (start // self.length + 1) * self.length - start
        has_prompt = len(document.labels) > 0 and document.labels[0] == IGNORED
        return bool(has_prompt and (document.labels[first_end:] != IGNORED).any())

    def notices(self) -> list[str]:
        if not self.replies_cut:
            return []
        return [
            f"{self.replies_cut} of {self.documents} examples are cut at data.max_length={self.length}: "
            "a part of their replies is trained without the prompt; data.packing=none keeps examples apart"
        ]


class Separate(Packer):
    """One document per sequence. Longer ones are cut at their end."""

    def _arrange(self, batch: list[Document]) -> Iterator[Document]:
        for document in batch:
            self.replies_cut += len(document.ids) > self.length
            yield Document(document.ids[: self.length], document.labels[: self.length])

    def notices(self) -> list[str]:
        found = []
        if self.replies_cut:
            found.append(
                f"{self.replies_cut} of {self.documents} examples are longer than "
                f"data.max_length={self.length} and lose their end"
            )
        if self.dropped:
            found.append(
                f"{self.dropped} of {self.documents} examples are left out: nothing is left to learn"
            )
        return found


def packer_of(data: Data) -> Packer:
    """The packer that `data.packing` chooses."""
    return Wrapped(data.max_length) if data.packing == "wrapped" else Separate(data.max_length)


def table_of(columns: Columns, schema: Any) -> Any:
    """The sequences as an Arrow table; lists of one length have no offsets."""
    import pyarrow as pa  # type: ignore[import-untyped]

    return pa.table(
        [_list_array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema
    )


def _list_array(values: list[Ids], kind: Any) -> Any:
    import pyarrow as pa

    flat = pa.array(np.concatenate(values))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in values])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)
