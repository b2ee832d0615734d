"""Which tensor is written into which file."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from zpipe.train.export.weights import INDEX_NAME, SINGLE_NAME


@dataclass(frozen=True)
class Entry:
    """One tensor as it is exported."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """The tensors of each file, by the file's name."""

    files: Mapping[str, list[Entry]]

    @classmethod
    def of(cls, entries: list[Entry], most_bytes: int) -> "Layout":
        """Fills files in the order of the entries; a tensor that is larger than a file has one of its own."""
        groups: list[list[Entry]] = []
        room = -1
        for entry in entries:
            if entry.bytes > room or not groups:
                groups.append([])
                room = most_bytes
            groups[-1].append(entry)
            room -= entry.bytes
        return cls({_name(number, len(groups)): group for number, group in enumerate(groups, start=1)})

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries)

    @property
    def entries(self) -> list[Entry]:
        return [entry for group in self.files.values() for entry in group]

    @property
    def largest_elements(self) -> int:
        return max(prod(entry.shape) for entry in self.entries)

    def index(self) -> tuple[str, dict[str, Any]] | None:
        """The name and the content of the index that transformers needs for several files."""
        if len(self.files) == 1:
            return None
        places = {entry.name: file for file, group in self.files.items() for entry in group}
        elements = sum(prod(entry.shape) for entry in self.entries)
        metadata = {"total_parameters": elements, "total_size": self.bytes}
        return INDEX_NAME, {"metadata": metadata, "weight_map": dict(sorted(places.items()))}


def _name(number: int, count: int) -> str:
    return SINGLE_NAME if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
