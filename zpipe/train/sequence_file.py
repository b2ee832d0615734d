"""Writes packed sequences to an Arrow file."""

import os
from collections.abc import Iterable
from pathlib import Path

from zpipe.data.refusals import data_path_refusal, nothing_to_learn
from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data
from zpipe.train.formats import Document
from zpipe.train.packing import Packer, packer_of, table_of


def write_packed(path: Path, batches: Iterable[list[Document]], data: Data) -> Packer:
    """Writes the packed sequences atomically; raises Refusal if the data is too small for one.

    Returns the packer, whose counters cover all of the data.
    """
    import datasets
    from datasets.arrow_writer import ArrowWriter

    length = data.max_length if data.packing == "wrapped" else -1
    column = datasets.Sequence(datasets.Value("int32"), length=length)
    features = datasets.Features({"input_ids": column, "labels": column})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    packer = packer_of(data)
    try:
        with ArrowWriter(path=str(temporary), features=features) as writer:
            for columns in packer.pack(batches):
                writer.write_table(table_of(columns, features.arrow_schema))
            if packer.sequences:
                writer.finalize()
        _require_a_sequence(packer, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return packer


def _require_a_sequence(packer: Packer, data: Data) -> None:
    if packer.sequences:
        return
    path = data.path or data.source
    if packer.tokens == 0:
        raise data_path_refusal(path, "it contains no text")
    if packer.trainable_tokens == 0:
        raise nothing_to_learn(data)
    if data.packing == "none":
        raise _all_prompts_too_long(data)
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
                fix=f"data.max_length={packer.tokens // 8 * 8}, or data.packing=none",
            )
        ]
    )


def _all_prompts_too_long(data: Data) -> Refusal:
    reason = "no reply starts within this many tokens, so nothing is left to learn"
    fix = f"data.max_length={4 * data.max_length}"
    return Refusal([Problem("data.max_length", data.max_length, reason, "more than the prompts have", fix)])
