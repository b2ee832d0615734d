"""Writes the safetensors format to any file. The library would hold Python's lock while it writes.

Format: 8 bytes with the length of the header, the header in JSON, the tensors one after the other
(github.com/huggingface/safetensors).
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

import torch

_NAMES = {
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
_ALIGNMENT = 8


class _Writable(Protocol):
    def write(self, data: bytes | memoryview) -> int: ...


def can_write(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether each tensor has a common dtype and lies in one piece."""
    return all(each.dtype in _NAMES and each.is_contiguous() for each in tensors.values())


def write_safetensors(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], file: _Writable
) -> None:
    """Writes tensors in host memory in the library's order: wide types first, then by name."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        if tensors[name].numel():
            file.write(_bytes_of(tensors[name]))


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    array: Any = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    return memoryview(array)
