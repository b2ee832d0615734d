"""From rows to documents: ids, and labels that are -100 wherever nothing is to be learned."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from zpipe.problems import Refusal
from zpipe.schema.data import Data
from zpipe.train.loss_mask import Piece, Span, encode_spans
from zpipe.train.machine_errors import raise_if_machine
from zpipe.train.sources import problem
from zpipe.train.tokens import Encoder, Ids

IGNORED = -100
"""The label that transformers' losses skip."""

COLUMNS = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}
"""Layouts in the order in which `auto` looks for them."""

Batch = dict[str, list[Any]]


@dataclass(frozen=True)
class Document:
    """One example as ids, with a label for each."""

    ids: Ids
    labels: Ids


def choose_layout(data: Data, seen: list[str]) -> str:
    """Which of COLUMNS the table has; raises Refusal when it has not the one asked for, or none."""
    candidates = COLUMNS if data.columns == "auto" else {data.columns: COLUMNS[data.columns]}
    for layout, needed in candidates.items():
        if set(needed) <= set(seen):
            return layout
    key = "data.path" if data.columns == "auto" else "data.columns"
    raise problem(
        data.path if data.columns == "auto" else data.columns,
        f"no usable columns; the data has {', '.join(seen) or 'none'}",
        key=key,
        allowed="; ".join(" and ".join(needed) for needed in candidates.values()),
    )


def documents(
    batches: Iterator[Batch], layout: str, data: Data, encoder: Encoder
) -> Iterator[list[Document]]:
    """The documents of each batch. Rows without any text are left out; malformed ones raise Refusal."""
    convert: dict[str, Callable[[list[Any], int, Data, Encoder], list[Document]]] = {
        "text": _from_text,
        "prompt_completion": _from_pairs,
        "messages": _from_messages,
    }
    row = 1
    for batch in batches:
        rows = list(zip(*(batch[name] for name in COLUMNS[layout]), strict=True))
        yield convert[layout](rows, row, data, encoder)
        row += len(rows)


def _from_text(rows: list[Any], first: int, data: Data, encoder: Encoder) -> list[Document]:
    texts = [_text(text, "text", first + at, data) for at, (text,) in enumerate(rows)]
    return [_document([(ids, True)], encoder) for ids in encoder([text for text in texts if text])]


def _from_pairs(rows: list[Any], first: int, data: Data, encoder: Encoder) -> list[Document]:
    prompts = [_text(row[0], "prompt", first + at, data) for at, row in enumerate(rows)]
    completions = [_text(row[1], "completion", first + at, data) for at, row in enumerate(rows)]
    on_prompts = not data.completion_only
    pairs = zip(prompts, completions, strict=True)
    rendered = [[(prompt, on_prompts), (completion, True)] for prompt, completion in pairs]
    # An empty completion would teach nothing but to stop.
    return [_document(pieces, encoder) for pieces in encode_spans(rendered, encoder) if len(pieces[1][0])]


def _from_messages(rows: list[Any], first: int, data: Data, encoder: Encoder) -> list[Document]:
    rendered = []
    for at, (messages,) in enumerate(rows):
        if not messages:
            continue
        try:
            rendered.append(_spans(_checked(messages), encoder, data.completion_only))
        except Refusal:
            raise
        except Exception as error:
            raise_if_machine(error)
            raise problem(
                data.path,
                f"row {first + at} is no conversation that the chat template can render: {error}",
                allowed="messages: a list of {role, content}",
            ) from error
    return [_document(pieces, encoder, rendered=True) for pieces in encode_spans(rendered, encoder)]


def _text(value: Any, column: str, row: int, data: Data) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise problem(
            data.path, f"column {column} holds a {type(value).__name__} instead of text in row {row}"
        )
    return value


def _checked(messages: Any) -> list[dict[str, Any]]:
    if isinstance(messages, dict):
        # Older data sets keep a list of messages as one list for each key.
        messages = [
            dict(zip(messages, values, strict=True)) for values in zip(*messages.values(), strict=True)
        ]
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError("a message has no role")
        if not isinstance(message.get("content"), str | list):
            raise ValueError(f"the {message['role']} message has no content")
    return list(messages)


def _spans(messages: list[dict[str, Any]], encoder: Encoder, completion_only: bool) -> list[Span]:
    """The rendered conversation in pieces, each with whether it is to be learned.

    A reply begins where the template would let the model begin it, so the ids before it are the
    very ids that stand before it in inference.
    """
    whole = encoder.render(messages)
    if not completion_only:
        return [(whole, True)]
    pieces: list[Span] = []
    done = 0
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        opened = encoder.render(messages[:at], open_reply=True)
        begin = max(done, _shared(whole, opened))
        end = _reply_end(whole, messages, at, begin, encoder)
        pieces += [(whole[done:begin], False), (whole[begin:end], True)]
        done = end
    pieces.append((whole[done:], False))
    return [(text, learned) for text, learned in pieces if text]


def _reply_end(whole: str, messages: list[dict[str, Any]], at: int, begin: int, encoder: Encoder) -> int:
    through = encoder.render(messages[: at + 1])
    if whole.startswith(through) and len(through) >= begin:
        return len(through)
    # Some templates (Qwen3's) render a reply otherwise once more turns follow: look for its words.
    content = messages[at]["content"]
    found = whole.find(content.strip(), begin) if isinstance(content, str) else -1
    if found < 0:
        raise ValueError(
            "the template leaves out an assistant message; data.completion_only=false trains on all"
        )
    end = found + len(content.strip())
    eos = encoder.tokenizer.eos_token or ""
    return end + len(eos) if whole.startswith(eos, end) else end


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    if one.startswith(other):
        return len(other)
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _document(pieces: list[Piece], encoder: Encoder, rendered: bool = False) -> Document:
    """Joins pieces and ends them with eos, which is learned if what it ends is.

    A rendered conversation brings its own start, and often its own end.
    """
    before = np.asarray(() if rendered else encoder.start, dtype=np.int32)
    learned_from_start = bool(pieces) and pieces[0][1]
    parts = [(before, learned_from_start), *pieces]
    tail = parts[-1][0][-2:].tolist() if parts[-1][0].size else []
    if encoder.end is not None and encoder.end not in tail:
        parts.append((np.asarray([encoder.end], dtype=np.int32), parts[-1][1]))
    ids = np.concatenate([ids for ids, _ in parts])
    labels = np.concatenate([ids if learned else np.full_like(ids, IGNORED) for ids, learned in parts])
    return Document(ids, labels)
