"""Writes the safetensors format to any file.

The library holds Python's lock while it writes, and wants all tensors of a file in memory. The format:
8 bytes with the length of the header, the header in JSON, the values of all tensors without gaps
(https://github.com/huggingface/safetensors, Format).
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch

NAMES: Mapping[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Of the dtypes in the header."""
_ALIGNMENT = 8


class _Writable(Protocol):
    def write(self, data: bytes | memoryview) -> int: ...


def can_write(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether each tensor has a common dtype and lies in one piece."""
    return all(each.dtype in NAMES and each.is_contiguous() for each in tensors.values())


def write_safetensors(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], file: _Writable
) -> None:
    """Writes tensors in host memory in the library's order: wide types first, then by name."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    file.write(header(((name, tensors[name].dtype, tensors[name].shape) for name in names), metadata))
    for name in names:
        if tensors[name].numel():
            file.write(_bytes_of(tensors[name]))


def header(tensors: Iterable[tuple[str, torch.dtype, Iterable[int]]], metadata: Mapping[str, str]) -> bytes:
    """What a file begins with: name, dtype and shape of each tensor, in the order of their values."""
    described: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, dtype, shape in tensors:
        sizes = list(shape)
        start, end = end, end + math.prod(sizes) * dtype.itemsize
        described[name] = {"dtype": NAMES[dtype], "shape": sizes, "data_offsets": [start, end]}
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    array: Any = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    return memoryview(array)
