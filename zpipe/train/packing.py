"""Packs documents into sequences of equal length and writes them to an Arrow file."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data
from zpipe.train.formats import IGNORED, Document
from zpipe.train.refusals import data_path_refusal
from zpipe.train.tokens import Ids


class Packer:
    """Concatenates documents and cuts the result into sequences of one length.

    The counters cover the documents packed so far. `tokens` and `trainable_tokens` include what was dropped.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.tokens = 0
        self.trainable_tokens = 0
        self.sequences = 0

    def pack(self, batches: Iterable[list[Document]]) -> Iterator[tuple[Ids, Ids]]:
        """Yields (ids, labels), both of shape (n, length). Drops the incomplete sequence at the end."""
        rest = Document(np.empty(0, np.int32), np.empty(0, np.int32))
        for batch in batches:
            ids = np.concatenate([rest.ids, *(document.ids for document in batch)])
            labels = np.concatenate([rest.labels, *(document.labels for document in batch)])
            self.tokens += len(ids) - len(rest.ids)
            self.trainable_tokens += int((labels[len(rest.labels) :] != IGNORED).sum())
            cut = len(ids) // self.length * self.length
            rest = Document(ids[cut:], labels[cut:])
            yield from self._trainable(ids[:cut], labels[:cut])

    def _trainable(self, ids: Ids, labels: Ids) -> Iterator[tuple[Ids, Ids]]:
        """Drops sequences without a trainable token, whose loss would be 0/0."""
        rows = labels.reshape(-1, self.length)
        # Models shift the labels, so the first token of a sequence is never predicted.
        kept = (rows[:, 1:] != IGNORED).any(axis=1)
        if kept.any():
            self.sequences += int(kept.sum())
            yield ids.reshape(-1, self.length)[kept], rows[kept]


def write_packed(path: Path, batches: Iterable[list[Document]], data: Data) -> None:
    """Writes the packed sequences atomically; raises Refusal if the data is too small for one."""
    import datasets
    import pyarrow as pa  # type: ignore[import-untyped]
    from datasets.arrow_writer import ArrowWriter

    column = datasets.Sequence(datasets.Value("int32"), length=data.max_length)
    features = datasets.Features({"input_ids": column, "labels": column})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    packer = Packer(data.max_length)
    try:
        with ArrowWriter(path=str(temporary), features=features) as writer:
            for columns in packer.pack(batches):
                arrays = [
                    pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), data.max_length)
                    for values in columns
                ]
                writer.write_table(pa.table(arrays, schema=features.arrow_schema))
            if packer.sequences:
                writer.finalize()
        _require_a_sequence(packer, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _require_a_sequence(packer: Packer, data: Data) -> None:
    if packer.sequences:
        return
    path = data.path or data.source
    if packer.tokens == 0:
        raise data_path_refusal(path, "it contains no text")
    if packer.trainable_tokens == 0:
        raise data_path_refusal(
            path,
            "no trainable token: it contains only prompts, no completion and no assistant message",
            allowed="examples with a completion or an assistant message",
            fix="data.completion_only=false",
        )
    if packer.tokens >= packer.length or packer.tokens < 8:
        reason = f"too little data: {packer.tokens} tokens, {packer.trainable_tokens} of them trainable"
        raise data_path_refusal(path, reason)
    raise Refusal(
        [
            Problem(
                key="data.max_length",
                value=data.max_length,
                reason=f"the data has {packer.tokens} tokens in total, too few for one sequence",
                allowed=f"8 to {packer.tokens}",
                fix=f"data.max_length={packer.tokens // 8 * 8}",
            )
        ]
    )
