"""A tensor in pieces: what is in memory at once does not grow with the tensor."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

MOST_ELEMENTS = 1 << 22
"""Of one piece."""


class Piece(NamedTuple):
    """Consecutive elements of a flattened tensor."""

    start: int
    numel: int

    @property
    def end(self) -> int:
        return self.start + self.numel


def pieces(shape: Sequence[int]) -> Iterator[Piece]:
    """All of a tensor, in order; none of a tensor without elements."""
    elements = prod(shape)
    for start in range(0, elements, MOST_ELEMENTS):
        yield Piece(start, min(MOST_ELEMENTS, elements - start))
