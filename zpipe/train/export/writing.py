"""Writes safetensors files tensor by tensor: the library wants all tensors of a file in memory.

The format: the length of the header in 8 bytes, the header in JSON, then the values of all tensors without
gaps (https://github.com/huggingface/safetensors, Format).
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from zpipe.runfolder.atomic import write_json
from zpipe.train.export.dtypes import SAFETENSORS
from zpipe.train.export.layout import Entry, Layout
from zpipe.train.export.weights import Weights

OnBytes = Callable[[int], None]
_ALIGNMENT = 8
_ELEMENTS_AT_ONCE = 1 << 24


def write_weights(folder: Path, layout: Layout, weights: Weights, on_bytes: OnBytes | None) -> None:
    """Writes every file of the layout, and its index. Raises OSError."""
    for name, group in layout.files.items():
        # Wide elements come first, so that every tensor is aligned.
        entries = sorted(group, key=lambda entry: -entry.dtype.itemsize)
        with (folder / name).open("xb") as file:
            file.write(_header(entries))
            for entry in entries:
                _write_values(file, weights.tensor(entry.name), entry.dtype)
                if on_bytes is not None:
                    on_bytes(entry.bytes)
    index = layout.index()
    if index is not None:
        write_json(folder / index[0], index[1])


def _header(entries: list[Entry]) -> bytes:
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        described[entry.name] = {
            "dtype": SAFETENSORS[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.bytes],
        }
        offset += entry.bytes
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _write_values(file: BinaryIO, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    flat = tensor.contiguous().view(-1)
    for part in flat.split(_ELEMENTS_AT_ONCE):
        values = part.to(dtype).contiguous().view(torch.uint8)
        file.write(memoryview(values.numpy()))
