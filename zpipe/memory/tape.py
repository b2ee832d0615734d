"""Plays the allocations of a run in order, and keeps what is alive at the peak."""

import math
from collections import Counter
from dataclasses import dataclass, field

from zpipe.memory.allocator import Allocator

MODEL, REDUCTIONS, GATHERS = range(3)
"""CUDA streams: a tensor takes memory of its own stream alone."""
UPDATE_PHASE = "optimizer step"
_BARELY, _GROWTH = 2, 0.3
"""Small tensors that are not played may cut a free block. Of nine runs whose update had one less than twice
as large as its tensor, three took a part of it or all of it anew."""


@dataclass
class Peak:
    bytes: int = 0
    phase: str = ""
    terms: dict[str, int] = field(default_factory=dict)
    """Bytes by term."""


class Tape:
    """`allocator` is left out where only the peak of the tensors is asked for, which is much faster."""

    def __init__(self, allocator: Allocator | None = None) -> None:
        self.phase = "start"
        self.peak = Peak()
        self.reserved = 0
        """The most bytes that the allocator has reserved."""
        self.room = math.inf
        """How often a tensor of the last update went into the largest free block, at least."""
        self._allocator = allocator
        self._live: dict[str, tuple[int, str]] = {}
        self._terms: Counter[str] = Counter()
        self._total = 0
        self._is_rising = False

    def take(self, name: str, size: float, term: str, stream: int = MODEL) -> None:
        """Allocates a tensor of `size` bytes under a name that is not alive."""
        bytes_ = int(size)
        if bytes_ <= 0:
            return
        self._live[name] = bytes_, term
        self._terms[term] += bytes_
        self._total += bytes_
        if self._total > self.peak.bytes:
            self.peak.bytes, self._is_rising = self._total, True
        if self._allocator is not None:
            self._reserve(self._allocator, name, bytes_, stream)

    def _reserve(self, allocator: Allocator, name: str, size: int, stream: int) -> None:
        room = allocator.largest_free(size, stream) / size if self.phase == UPDATE_PHASE else math.inf
        allocator.allocate(name, size, stream)
        growth = _GROWTH * size if 1 <= room < _BARELY else 0
        self.room = min(self.room, room)
        self.reserved = max(self.reserved, allocator.reserved + round(growth))

    def drop(self, *names: str) -> None:
        """Frees tensors; a name that is not alive is passed over."""
        for name in names:
            if name not in self._live:
                continue
            self._note_peak()
            bytes_, term = self._live.pop(name)
            self._terms[term] -= bytes_
            self._total -= bytes_
            if self._allocator is not None:
                self._allocator.free(name)

    def is_alive(self, name: str) -> bool:
        return name in self._live

    def bytes_of(self, name: str) -> int:
        return self._live[name][0]

    def pulse(self, size: float, term: str, stream: int = MODEL) -> None:
        """Allocates and frees."""
        self.take("pulse", size, term, stream)
        self.drop("pulse")

    def begin(self, phase: str) -> None:
        self._note_peak()
        self.phase = phase
        self.room = math.inf

    def empty_cache(self) -> None:
        if self._allocator is not None:
            self._allocator.empty_cache()

    def _note_peak(self) -> None:
        if self._is_rising:
            self.peak.phase = self.phase
            self.peak.terms = {term: size for term, size in self._terms.items() if size}
            self._is_rising = False
