"""PyTorch's caching allocator with expandable segments, as arithmetic.

It tells what is reserved for a sequence of allocations. Source: pytorch/c10/cuda/CUDACachingAllocator.cpp,
verified with traces of real runs.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable

MIB = 2**20
_UNIT = 512
"""Bytes to which sizes are rounded up."""
_LARGEST_SMALL = MIB
_SMALL_PAGE, _LARGE_PAGE = 2 * MIB, 20 * MIB
"""Bytes that are mapped at a time."""


class Allocator:
    """Small and large tensors, and tensors of different streams, are in separate segments."""

    def __init__(self) -> None:
        self.reserved = 0
        """Bytes."""
        self._segments: dict[tuple[int, bool], _Segment] = {}
        self._blocks: dict[Hashable, tuple[_Segment, int, int]] = {}

    def allocate(self, name: Hashable, size: int, stream: int = 0) -> None:
        size = max(_UNIT, -(-size // _UNIT) * _UNIT)
        is_small = size <= _LARGEST_SMALL
        segment = self._segments.get((stream, is_small))
        if segment is None:
            segment = self._segments[stream, is_small] = _Segment(_SMALL_PAGE if is_small else _LARGE_PAGE)
        before = segment.mapped
        self._blocks[name] = segment, segment.take(size), size
        self.reserved += segment.mapped - before

    def free(self, name: Hashable) -> None:
        segment, address, size = self._blocks.pop(name)
        segment.give(address, size)

    def largest_free(self, size: int, stream: int = 0) -> int:
        """Bytes of the largest free block among which a tensor of `size` bytes looks for its own."""
        segment = self._segments.get((stream, size <= _LARGEST_SMALL))
        return 0 if segment is None else segment.largest_free

    def empty_cache(self) -> None:
        """torch.cuda.empty_cache: pages without a tensor are unmapped."""
        for segment in self._segments.values():
            self.reserved -= segment.unmap_free_pages()


class _Segment:
    """Free blocks of one segment, and the gaps in it that are not mapped. Addresses begin at 0."""

    def __init__(self, page: int) -> None:
        self.mapped = 0
        self._page = page
        self._end = 0
        """All beyond is not mapped."""
        self._free: dict[int, int] = {}
        """Sizes by address."""
        self._address_of_end: dict[int, int] = {}
        self._by_size: list[tuple[int, int]] = []
        self._gaps: list[tuple[int, int]] = []
        """Address and size, in whole pages, ordered."""

    @property
    def largest_free(self) -> int:
        return self._by_size[-1][0] if self._by_size else 0

    def take(self, size: int) -> int:
        """The smallest free block that is large enough; a block that can grow is the last choice of all."""
        index = bisect_left(self._by_size, (size, -1))
        if index == len(self._by_size):
            return self._grow(size)
        found, address = self._by_size[index]
        if address + found == self._end and index + 1 < len(self._by_size):
            found, address = self._by_size[index + 1]
        self._remove(address)
        self._add(address + size, found - size)
        return address

    def give(self, address: int, size: int) -> None:
        """Frees a block, and merges it with free neighbours."""
        before = self._address_of_end.get(address)
        if before is not None:
            size += self._remove(before)
            address = before
        if address + size in self._free:
            size += self._remove(address + size)
        self._add(address, size)

    def unmap_free_pages(self) -> int:
        """Returns the bytes of the pages."""
        before = self.mapped
        for address, size in sorted(self._free.items()):
            first, last = -(-address // self._page) * self._page, (address + size) // self._page * self._page
            if last <= first:
                continue
            self._remove(address)
            self._add(address, first - address)
            self._add(last, address + size - last)
            self.mapped -= last - first
            insort(self._gaps, (first, last - first))
        self._merge_gaps()
        return before - self.mapped

    def _merge_gaps(self) -> None:
        merged: list[tuple[int, int]] = []
        for address, size in self._gaps:
            if merged and sum(merged[-1]) == address:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((address, size))
        if merged and sum(merged[-1]) == self._end:
            self._end = merged.pop()[0]
        self._gaps = merged

    def _grow(self, size: int) -> int:
        """Maps pages of the first gap that is large enough together with the free blocks around it."""
        for address, _ in self._gaps:
            start = self._address_of_end.get(address, address)
            if self._room(start, size) >= size:
                return self._map(start, size)
        return self._map(self._address_of_end.get(self._end, self._end), size)

    def _room(self, start: int, size: int) -> int:
        """Bytes from `start` without a tensor, as far as they are needed."""
        gaps, position = dict(self._gaps), start
        while position - start < size:
            step = self._free.get(position) or gaps.get(position)
            if position == self._end:
                return size
            if step is None:
                break
            position += step
        return position - start

    def _map(self, start: int, size: int) -> int:
        """Takes `size` bytes from `start`, where free blocks and gaps alternate."""
        gaps, position = dict(self._gaps), start
        while position - start < size:
            if position in self._free:
                position += self._remove(position)
                continue
            missing = -(-(size - (position - start)) // self._page) * self._page
            gap = gaps.pop(position, None)
            grown = missing if gap is None else min(gap, missing)
            if gap is None:
                self._end = position + grown
            elif gap > grown:
                gaps[position + grown] = gap - grown
            self.mapped += grown
            position += grown
        self._gaps = sorted(gaps.items())
        if position - start > size:
            self.give(start + size, position - start - size)
        return start

    def _add(self, address: int, size: int) -> None:
        if size > 0:
            self._free[address] = size
            self._address_of_end[address + size] = address
            insort(self._by_size, (size, address))

    def _remove(self, address: int) -> int:
        """Returns the size of the free block."""
        size = self._free.pop(address)
        del self._address_of_end[address + size]
        del self._by_size[bisect_left(self._by_size, (size, address))]
        return size
