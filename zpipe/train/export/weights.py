"""Trained weights by name, read from the disk when they are used."""

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open

from zpipe.problems import Problem, Refusal
from zpipe.runfolder.foreign_files import is_regular, read_text
from zpipe.train.export.pieces import Piece, pieces
from zpipe.train.safetensors_file import NAMES

OnBytes = Callable[[int], None]
INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_TORCH = {name: dtype for dtype, name in NAMES.items()}


class Weights(Protocol):
    """The weights of one model."""

    kind: str
    """For people."""
    mapped_bytes: int
    """How much of the files may count as memory of this process between two reads."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def part(self, name: str, piece: Piece) -> torch.Tensor:
        """A piece of the flattened tensor in host memory; do not change it."""
        ...


class Watched:
    """The same weights; `on_bytes` is told of each piece when it is read for the first time."""

    def __init__(self, weights: Weights, on_bytes: OnBytes | None) -> None:
        self._weights, self._on_bytes, self._read = weights, on_bytes, set[tuple[str, Piece]]()
        self.kind, self.mapped_bytes, self.shapes = weights.kind, weights.mapped_bytes, weights.shapes

    def dtype(self, name: str) -> torch.dtype:
        return self._weights.dtype(name)

    def part(self, name: str, piece: Piece) -> torch.Tensor:
        found = self._weights.part(name, piece)
        if self._on_bytes is not None and (name, piece) not in self._read:
            self._read.add((name, piece))
            self._on_bytes(found.nbytes)
        return found


class SavedWeights:
    """The safetensors files of a model folder. Raises Refusal for files that are damaged or do not fit.

    A file is mapped into memory only while a piece is copied from it: what was read of a mapped file counts
    as memory of this process.
    """

    def __init__(self, folder: Path) -> None:
        self.kind, self.mapped_bytes = "the saved weights", 0
        self._folder = folder
        self._names = {file: _headers(folder / file) for file in _file_names(folder)}
        headers = {
            name: (file, header) for file, found in self._names.items() for name, header in found.items()
        }
        self._places = {name: folder / file for name, (file, _) in headers.items()}
        self._formats = {name: header.format for name, (_, header) in headers.items()}
        self.shapes = {name: header.shape for name, (_, header) in headers.items()}

    def drop_copies(self, tied: Mapping[str, str]) -> None:
        """Leaves out the copies of tied weights that stages 0 to 2 save. Raises Refusal if they differ."""
        for name, origin in tied.items():
            if name not in self.shapes or origin not in self.shapes:
                continue
            if not self._are_equal(name, origin):
                raise Refusal([_damaged(self._folder, f"{name} is tied to {origin}, and differs from it")])
            del self.shapes[name]

    def names_in(self, file_name: str) -> list[str]:
        return list(self._names[file_name])

    def dtype(self, name: str) -> torch.dtype:
        written = self._formats[name]
        if written not in _TORCH:
            raise Refusal([_damaged(self._folder, f"{name} has the format {written}")])
        return _TORCH[written]

    def part(self, name: str, piece: Piece) -> torch.Tensor:
        with _opened(self._places[name]) as file:
            mapped: torch.Tensor = file.get_tensor(name)
            return mapped.view(-1)[piece.start : piece.end].clone()

    def _are_equal(self, one: str, other: str) -> bool:
        shape = self.shapes[one]
        return shape == self.shapes[other] and all(
            torch.equal(self.part(one, piece), self.part(other, piece)) for piece in pieces(shape)
        )


def bytes_of(weights: Weights) -> int:
    return sum(prod(shape) * weights.dtype(name).itemsize for name, shape in weights.shapes.items())


def has_saved_weights(folder: Path) -> bool:
    return is_regular(folder / SINGLE_NAME) or is_regular(folder / INDEX_NAME)


def weight_map(folder: Path) -> dict[str, str]:
    """The file of each tensor by the index of a folder. Raises Refusal for an index that is none."""
    index = folder / INDEX_NAME
    try:
        found = json.loads(read_text(index))["weight_map"]
        names = {str(name): str(file) for name, file in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refusal([_damaged(index, "not an index of weight files")]) from None
    outside = [file for file in names.values() if Path(file).name != file]
    if outside:
        raise Refusal([_damaged(index, f"it names a file outside the folder: {outside[0]}")])
    return names


def _file_names(folder: Path) -> list[str]:
    if is_regular(folder / SINGLE_NAME):
        return [SINGLE_NAME]
    return sorted(set(weight_map(folder).values()))


class _Header(NamedTuple):
    """What the file says of a tensor."""

    shape: tuple[int, ...]
    format: str


def _headers(path: Path) -> dict[str, _Header]:
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {
            name: _Header(tuple(each.get_shape()), str(each.get_dtype())) for name, each in slices.items()
        }


def _opened(file: Path) -> Any:
    if not is_regular(file):
        raise Refusal([_damaged(file, "no regular file")])
    try:
        return safe_open(str(file), framework="pt")
    except (SafetensorError, OSError) as error:
        raise Refusal([_damaged(file, f"cannot be read: {error}")]) from None


def _damaged(file: Path, reason: str) -> Problem:
    return Problem("RUN", str(file), reason, "weights that transformers saved")
