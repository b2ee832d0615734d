"""Writes the files of weights piece by piece."""

from pathlib import Path
from typing import Any, BinaryIO

import torch

from zpipe.runfolder.atomic import write_json
from zpipe.train.export.layout import Layout
from zpipe.train.export.pieces import pieces
from zpipe.train.export.weights import OnBytes, Weights
from zpipe.train.safetensors_file import header


def write_weights(folder: Path, layout: Layout, weights: Weights, on_bytes: OnBytes | None) -> None:
    """Writes every file of the layout, and its index. Raises OSError."""
    for name, group in layout.files.items():
        # Wide elements come first, so that every tensor is aligned.
        entries = sorted(group, key=lambda entry: -entry.dtype.itemsize)
        with (folder / name).open("xb") as file:
            described = ((entry.name, entry.dtype, entry.shape) for entry in entries)
            file.write(header(described, {"format": "pt"}))
            for entry in entries:
                for piece in pieces(entry.shape):
                    count = _write(file, weights.part(entry.name, piece).to(entry.dtype))
                    if on_bytes is not None:
                        on_bytes(count)
    index = layout.index()
    if index is not None:
        write_json(folder / index[0], index[1])


def _write(file: BinaryIO, values: torch.Tensor) -> int:
    array: Any = values.view(torch.uint8).numpy()
    return file.write(memoryview(array))
