"""Writes the files of weights tensor by tensor, so that one of them is in memory at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch

from zpipe.runfolder.atomic import write_json
from zpipe.train.export.layout import Layout
from zpipe.train.export.weights import Weights
from zpipe.train.safetensors_file import header

OnBytes = Callable[[int], None]
_ELEMENTS_AT_ONCE = 1 << 24


def write_weights(folder: Path, layout: Layout, weights: Weights, on_bytes: OnBytes | None) -> None:
    """Writes every file of the layout, and its index. Raises OSError."""
    for name, group in layout.files.items():
        # Wide elements come first, so that every tensor is aligned.
        entries = sorted(group, key=lambda entry: -entry.dtype.itemsize)
        with (folder / name).open("xb") as file:
            described = ((entry.name, entry.dtype, entry.shape) for entry in entries)
            file.write(header(described, {"format": "pt"}))
            for entry in entries:
                _write_values(file, weights.tensor(entry.name), entry.dtype)
                if on_bytes is not None:
                    on_bytes(entry.bytes)
    index = layout.index()
    if index is not None:
        write_json(folder / index[0], index[1])


def _write_values(file: BinaryIO, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    flat = tensor.contiguous().view(-1)
    for part in flat.split(_ELEMENTS_AT_ONCE):
        values = part.to(dtype).contiguous().view(torch.uint8)
        file.write(memoryview(values.numpy()))
