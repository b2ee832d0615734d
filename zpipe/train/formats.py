"""Converts examples to documents: token ids, and labels that are -100 outside the loss."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from zpipe.data.examples import Example, Pair, Text, example_of
from zpipe.data.machine_errors import reraise_machine_error
from zpipe.data.messages import SHAPE, Conversation
from zpipe.data.refusals import data_path_refusal
from zpipe.data.row import Row
from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data
from zpipe.train.chat import ChatRenderer
from zpipe.train.chat_checks import LossyTemplateError
from zpipe.train.loss_mask import EncodedSpan, Span, encode_spans
from zpipe.train.tokens import Encoder, Ids

IGNORED = -100
"""The label that the losses of transformers ignore."""
ROWS_PER_BATCH = 256


@dataclass(frozen=True)
class Document:
    """One example: `ids` and `labels`, both of shape (tokens,)."""

    ids: Ids
    labels: Ids


class _Placed(NamedTuple):
    example: Example
    place: str


class Documents:
    """Converts the rows of one layout. Rows without text are left out and counted."""

    def __init__(self, layout: str, data: Data, encoder: Encoder) -> None:
        self.rows = self.left_out = 0
        self.has_messages = False
        self._layout, self._data, self._encoder = layout, data, encoder
        self._renderer = ChatRenderer(encoder, data.completion_only, data.lossy_template)

    def read(self, rows: Iterable[Row]) -> Iterator[list[Document]]:
        """The documents of each batch of rows. Raises Refusal for an unusable row."""
        examples = self._examples(rows)
        while batch := list(islice(examples, ROWS_PER_BATCH)):
            yield self._documents(batch)

    def notices(self) -> list[str]:
        """What the user should know of the rows read so far."""
        left_out = [f"{self.left_out} of {self.rows} rows have no text and are left out"] * bool(
            self.left_out
        )
        return left_out + self._renderer.checks.notices()

    def _examples(self, rows: Iterable[Row]) -> Iterator[_Placed]:
        for row in rows:
            self.rows += 1
            example = example_of(row, self._layout, self._data)
            if example is None:
                self.left_out += 1
            else:
                self.has_messages = self.has_messages or isinstance(example, Conversation)
                yield _Placed(example, row.place)

    def _documents(self, batch: list[_Placed]) -> list[Document]:
        if isinstance(batch[0].example, Text):
            encoded = self._encoder([each.example.text for each in batch if isinstance(each.example, Text)])
            return [_document([(ids, True)], self._encoder) for ids in encoded]
        spans = encode_spans([self._spans(each) for each in batch], self._encoder)
        return [
            _document(encoded, self._encoder, rendered=isinstance(each.example, Conversation))
            for encoded, each in zip(spans, batch, strict=True)
        ]

    def _spans(self, placed: _Placed) -> list[Span]:
        example = placed.example
        if isinstance(example, Pair):
            return [(example.prompt, not self._data.completion_only), (example.completion, True)]
        assert isinstance(example, Conversation)
        try:
            return self._renderer.spans(example)
        except LossyTemplateError as loss:
            raise _lossy(placed, loss, self._data) from loss
        except Exception as error:
            reraise_machine_error(error)
            reason = f"{placed.place} is not a conversation that the chat template can render: {error}"
            raise data_path_refusal(self._data.path, reason, allowed=SHAPE) from error


def _document(spans: list[EncodedSpan], encoder: Encoder, rendered: bool = False) -> Document:
    """Joins the spans and appends eos, which counts in the loss if the last span does.

    A rendered conversation includes its own prefix, and often its own eos.
    """
    prefix = np.asarray(() if rendered else encoder.prefix, dtype=np.int32)
    prefix_in_loss = bool(spans) and spans[0][1]
    parts = [(prefix, prefix_in_loss), *spans]
    last_ids, last_in_loss = parts[-1]
    if encoder.eos is not None and encoder.eos not in last_ids[-2:].tolist():
        parts.append((np.asarray([encoder.eos], dtype=np.int32), last_in_loss))
    ids = np.concatenate([ids for ids, _ in parts])
    labels = np.concatenate([ids if in_loss else np.full_like(ids, IGNORED) for ids, in_loss in parts])
    return Document(ids, labels)


def _lossy(placed: _Placed, loss: LossyTemplateError, data: Data) -> Refusal:
    return Refusal(
        [
            Problem(
                "data.lossy_template",
                False,
                f"{placed.place}: {loss}; it would not be learned",
                "data that the template renders in full, or true",
                "data.lossy_template=true, or model.tokenizer=/a/tokenizer/with/another/template",
            )
        ]
    )
