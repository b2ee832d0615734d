"""From the spans of one text to the ids of each, as they stand when the text is tokenised as a whole.

Many tokenizers put something before every text (`▁` of Llama 2 and Mistral), so spans that are tokenised
apart would hold ids that no reply of the model ever has.
"""

import numpy as np

from zpipe.train.tokens import Encoder, Ids

Span = tuple[str, bool]
"""A part of a text, and whether it is to be learned."""
Piece = tuple[Ids, bool]

ANCHORS = ("\n", "a", ".")
"""What a text can be tokenised behind, to have the ids of one that goes on rather than begins."""


def encode_spans(rows: list[list[Span]], encoder: Encoder) -> list[list[Piece]]:
    """The ids of each span of each text.

    Where a span is to be learned, what stands before it has the ids that it has alone: those that the
    model is given in inference.
    """
    if encoder.as_bytes:
        return [_apart(spans, encoder) for spans in rows]
    if not encoder.tokenizer.is_fast:
        return [_grown(spans, encoder) for spans in rows]
    wholes = encoder.located([_text(spans) for spans in rows]) if rows else []
    return [_cut(spans, *whole, encoder) for spans, whole in zip(rows, wholes, strict=True)]


def _text(spans: list[Span]) -> str:
    return "".join(text for text, _ in spans)


def _apart(spans: list[Span], encoder: Encoder) -> list[Piece]:
    ids = encoder([text for text, _ in spans])
    return [(piece, learned) for piece, (_, learned) in zip(ids, spans, strict=True)]


def _grown(spans: list[Span], encoder: Encoder) -> list[Piece]:
    """For slow tokenizers: each span is what the text has more with it than without it."""
    pieces: list[Piece] = []
    before, done = "", np.empty(0, np.int32)
    for text, learned in spans:
        (whole,) = encoder([before + text])
        if whole[: len(done)].tolist() != done.tolist():
            before, done = "", done[:0]
            (whole,) = encoder([text])
        pieces.append((whole[len(done) :], learned))
        before, done = before + text, whole
    return pieces


def _cut(spans: list[Span], ids: Ids, places: Ids, encoder: Encoder) -> list[Piece]:
    """Cuts the ids of the whole text where its spans meet."""
    pieces: list[Piece] = []
    done = end = 0
    for at, (text, learned) in enumerate(spans):
        if at and learned and not _parts_at(end, places):
            before = _text(spans[:at])
            return [
                *_cut(spans[:at], *encoder.located([before])[0], encoder),
                *_cut(spans[at:], *_going_on(_text(spans[at:]), encoder), encoder),
            ]
        end += len(text)
        upto = max(done, int((places[:, 0] < end).sum()))
        pieces.append((ids[done:upto], learned))
        done = upto
    return pieces


def _parts_at(where: int, places: Ids) -> bool:
    """Whether one token ends and the next begins at this character."""
    before = places[places[:, 0] < where]
    return not len(before) or bool(before[:, 1].max() == where)


def _going_on(text: str, encoder: Encoder) -> tuple[Ids, Ids]:
    """The ids and places of a text that something stands before."""
    for anchor in ANCHORS:
        ((ids, places),) = encoder.located([anchor + text])
        if _parts_at(len(anchor), places):
            after = places[:, 0] >= len(anchor)
            return ids[after], places[after] - len(anchor)
    return encoder.located([text])[0]
