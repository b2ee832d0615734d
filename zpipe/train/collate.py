"""Puts sequences together to a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from zpipe.plans.plan import Plan
from zpipe.train.formats import IGNORED

Rows = Sequence[dict[str, Any]]
Batch = dict[str, torch.Tensor]


def collator_of(plan: Plan, tokenizer: Any) -> Callable[[Rows], Batch]:
    """The function that makes a batch of int64 tensors of shape (batch, length) of sequences."""
    data = plan.experiment.data
    if data.packing == "wrapped":
        return collate
    fill = next((each for each in (tokenizer.pad_token_id, tokenizer.eos_token_id) if each is not None), 0)
    # Compiled code is built anew for each length.
    compiled = plan.experiment.train.is_compiled or plan.experiment.compile.deepcompile
    return Padding(fill, data.max_length if compiled else None)


def collate(rows: Rows) -> Batch:
    """Stacks sequences of one length. They need no padding or mask."""
    return {
        name: torch.from_numpy(np.stack([row[name] for row in rows]).astype(np.int64))
        for name in ("input_ids", "labels")
    }


class Padding:
    """Pads sequences at their end to the longest of the batch, or to a fixed length."""

    def __init__(self, fill: int, length: int | None = None) -> None:
        self._fill = fill
        self._length = length

    def __call__(self, rows: Rows) -> Batch:
        lengths = [len(row["input_ids"]) for row in rows]
        length = self._length or max(lengths)
        shape = (len(rows), length)
        ids, labels = np.full(shape, self._fill, np.int64), np.full(shape, IGNORED, np.int64)
        mask = np.zeros(shape, np.int64)
        for index, (row, count) in enumerate(zip(rows, lengths, strict=True)):
            ids[index, :count], labels[index, :count], mask[index, :count] = (
                row["input_ids"],
                row["labels"],
                1,
            )
        columns = {"input_ids": ids, "labels": labels, "attention_mask": mask}
        return {name: torch.from_numpy(column) for name, column in columns.items()}
