"""Encodes a text made of spans, so that each span keeps the ids it has in the whole text.

Many tokenizers put a symbol before every text (`▁` in Llama 2 and Mistral). Spans encoded separately would
contain ids that the model never generates in inference.
"""

import numpy as np

from zpipe.train.tokens import Encoder, Ids

Span = tuple[str, bool]
"""A part of a text, and whether it counts in the loss."""
EncodedSpan = tuple[Ids, bool]

ANCHORS = ("\n", "a", ".")
"""Prefixes to encode a text with, to get the ids of a continuation instead of a beginning."""


def encode_spans(rows: list[list[Span]], encoder: Encoder) -> list[list[EncodedSpan]]:
    """The ids of each span of each text; one row per text.

    The ids before a span in the loss are the ids of the preceding text alone, as the model sees it in
    inference.
    """
    if encoder.is_bytes:
        return [_encode_separately(spans, encoder) for spans in rows]
    if not encoder.tokenizer.is_fast:
        return [_encode_incrementally(spans, encoder) for spans in rows]
    texts = encoder.with_offsets([_text(spans) for spans in rows]) if rows else []
    return [_split_ids(spans, *encoded, encoder) for spans, encoded in zip(rows, texts, strict=True)]


def _text(spans: list[Span]) -> str:
    return "".join(text for text, _ in spans)


def _encode_separately(spans: list[Span], encoder: Encoder) -> list[EncodedSpan]:
    encoded = encoder([text for text, _ in spans])
    return [(ids, in_loss) for ids, (_, in_loss) in zip(encoded, spans, strict=True)]


def _encode_incrementally(spans: list[Span], encoder: Encoder) -> list[EncodedSpan]:
    """For slow tokenizers, which have no offsets: a span gets the ids that it adds to the text before it."""
    encoded: list[EncodedSpan] = []
    before, ids_before = "", np.empty(0, np.int32)
    for text, in_loss in spans:
        (ids,) = encoder([before + text])
        if ids[: len(ids_before)].tolist() != ids_before.tolist():
            before, ids_before = "", ids_before[:0]
            (ids,) = encoder([text])
        encoded.append((ids[len(ids_before) :], in_loss))
        before, ids_before = before + text, ids
    return encoded


def _split_ids(spans: list[Span], ids: Ids, offsets: Ids, encoder: Encoder) -> list[EncodedSpan]:
    """Splits the ids of the whole text at the boundaries of its spans."""
    encoded: list[EncodedSpan] = []
    used = end = 0
    for index, (text, in_loss) in enumerate(spans):
        if index and in_loss and not _is_token_boundary(end, offsets):
            before, after = spans[:index], spans[index:]
            return [
                *_split_ids(before, *encoder.with_offsets([_text(before)])[0], encoder),
                *_split_ids(after, *_encode_continuation(_text(after), encoder), encoder),
            ]
        end += len(text)
        stop = max(used, int((offsets[:, 0] < end).sum()))
        encoded.append((ids[used:stop], in_loss))
        used = stop
    return encoded


def _is_token_boundary(position: int, offsets: Ids) -> bool:
    """Whether no token extends over this character position."""
    before = offsets[offsets[:, 0] < position]
    return not len(before) or bool(before[:, 1].max() == position)


def _encode_continuation(text: str, encoder: Encoder) -> tuple[Ids, Ids]:
    """The ids and offsets of a text that follows another text."""
    for anchor in ANCHORS:
        ((ids, offsets),) = encoder.with_offsets([anchor + text])
        if _is_token_boundary(len(anchor), offsets):
            after = offsets[:, 0] >= len(anchor)
            return ids[after], offsets[after] - len(anchor)
    return encoder.with_offsets([text])[0]
