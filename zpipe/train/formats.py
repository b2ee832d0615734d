"""Converts rows of a table to documents: token ids, and labels that are -100 outside the loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data
from zpipe.train.chat import checked_messages, conversation_spans
from zpipe.train.loss_mask import EncodedSpan, encode_spans
from zpipe.train.machine_errors import reraise_machine_error
from zpipe.train.refusals import data_path_refusal
from zpipe.train.tokens import Encoder, Ids

IGNORED = -100
"""The label that the losses of transformers ignore."""

COLUMNS = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}
"""The columns of each layout, in the order in which `data.columns=auto` tries them."""

Batch = dict[str, list[Any]]


@dataclass(frozen=True)
class Document:
    """One example: `ids` and `labels`, both of shape (tokens,)."""

    ids: Ids
    labels: Ids


def choose_layout(data: Data, available: list[str]) -> str:
    """The layout in COLUMNS to use for these columns; raises Refusal if none fits `data.columns`."""
    candidates = COLUMNS if data.columns == "auto" else {data.columns: COLUMNS[data.columns]}
    for layout, needed in candidates.items():
        if set(needed) <= set(available):
            return layout
    reason = f"no usable columns; the data has {', '.join(available) or 'none'}"
    allowed = "; ".join(" and ".join(needed) for needed in candidates.values())
    if data.columns == "auto":
        raise data_path_refusal(data.path, reason, allowed=allowed)
    raise Refusal([Problem("data.columns", data.columns, reason, allowed, "data.columns=auto")])


def documents(
    batches: Iterator[Batch], layout: str, data: Data, encoder: Encoder
) -> Iterator[list[Document]]:
    """The documents of each batch. Rows without text are skipped; malformed rows raise Refusal."""
    convert: dict[str, Callable[[list[Any], int, Data, Encoder], list[Document]]] = {
        "text": _from_texts,
        "prompt_completion": _from_pairs,
        "messages": _from_messages,
    }
    row = 1
    for batch in batches:
        rows = list(zip(*(batch[name] for name in COLUMNS[layout]), strict=True))
        yield convert[layout](rows, row, data, encoder)
        row += len(rows)


def _from_texts(rows: list[Any], first: int, data: Data, encoder: Encoder) -> list[Document]:
    texts = [_text(text, "text", first + index, data) for index, (text,) in enumerate(rows)]
    return [_document([(ids, True)], encoder) for ids in encoder([text for text in texts if text])]


def _from_pairs(rows: list[Any], first: int, data: Data, encoder: Encoder) -> list[Document]:
    prompts = [_text(row[0], "prompt", first + index, data) for index, row in enumerate(rows)]
    completions = [_text(row[1], "completion", first + index, data) for index, row in enumerate(rows)]
    train_on_prompts = not data.completion_only
    pairs = zip(prompts, completions, strict=True)
    rendered = [[(prompt, train_on_prompts), (completion, True)] for prompt, completion in pairs]
    # An empty completion would only train the model to stop.
    return [_document(spans, encoder) for spans in encode_spans(rendered, encoder) if len(spans[1][0])]


def _from_messages(rows: list[Any], first: int, data: Data, encoder: Encoder) -> list[Document]:
    rendered = []
    for index, (messages,) in enumerate(rows):
        if not messages:
            continue
        try:
            rendered.append(conversation_spans(checked_messages(messages), encoder, data.completion_only))
        except Exception as error:
            reraise_machine_error(error)
            raise data_path_refusal(
                data.path,
                f"row {first + index} is not a conversation that the chat template can render: {error}",
                allowed="messages: a list of {role, content}",
            ) from error
    return [_document(spans, encoder, rendered=True) for spans in encode_spans(rendered, encoder)]


def _text(value: Any, column: str, row: int, data: Data) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise data_path_refusal(
            data.path,
            f"row {row} of column {column} contains a {type(value).__name__}",
            allowed=f"text in column {column}",
        )
    return value


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
