"""Host memory that an export needs beside what the process has after its imports."""

import psutil

from zpipe.machine.host_memory import HostMemoryReader
from zpipe.train.export.pieces import MOST_ELEMENTS
from zpipe.train.export.streaming import TOKENS

_WIDEST_BYTES = 4
_PIECE_BYTES = MOST_ELEMENTS * _WIDEST_BYTES
_PIECES = 4
"""As it was read, joined, rounded, and compared."""
_FIRST_USE_BYTES = 64 << 20
"""What libraries import, allocate and keep at their first use."""
_LOGIT_BYTES = 4 + 4 + 8 + 8 + 8
"""Of two passes, both in double precision, and their difference."""


def bytes_of_pieces(mapped: int) -> int:
    """To write the weights and to compare them; `mapped` of the files that are read count as memory."""
    return mapped + _PIECES * _PIECE_BYTES + _FIRST_USE_BYTES


def bytes_of_forward(weights: int, largest: int, vocabulary: int) -> int:
    """`weights` are in memory at once; a product may copy its matrix, of at most `largest` elements."""
    logits = TOKENS * vocabulary * _LOGIT_BYTES
    return weights + largest * _WIDEST_BYTES + logits + _PIECE_BYTES + _FIRST_USE_BYTES


def resident_bytes() -> int:
    """Host memory of this process."""
    return int(psutil.Process().memory_info().rss)


def free_bytes() -> int:
    """Host memory that is left."""
    return HostMemoryReader().read().free
