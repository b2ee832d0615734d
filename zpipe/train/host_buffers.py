"""Host memory into which tensors are copied at a save; each save fills the same memory again.

torch copies a GPU tensor into pageable memory at 1.4 GiB/s on an H200, where pinned memory reaches 50
(benchmarks/RESULTS.md). Pinning everything would round each tensor up to a power of two, so GPU tensors come
through two small pinned buffers.
"""

from collections.abc import Iterable

import torch

from zpipe.machine.host_memory import HostMemoryReader

BUFFER_BYTES = 1 << 26
_SHARE_OF_FREE_MEMORY = 0.5
"""Of what is free on this machine, for the copies of all its ranks together."""


class HostBuffers:
    """One for each rank. Between `begin` and the next one, each storage is copied once."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._memory = HostMemoryReader()
        self._buffers: list[torch.Tensor] = []
        self._used = 0

    def begin(self) -> None:
        """What was copied before is no longer needed."""
        self._used = 0

    def lacking(self, storages: Iterable[torch.UntypedStorage]) -> tuple[int, int] | None:
        """Needed and free bytes if copies of these storages do not fit into host memory; None if they do."""
        sizes = [storage.nbytes() for storage in storages]
        reused = self._buffers[self._used : self._used + len(sizes)]
        pairs = zip(sizes, [buffer.numel() for buffer in reused] + [0] * len(sizes), strict=False)
        needed = self._ranks * sum(size for size, there in pairs if size != there)
        free = self._memory.read().free
        return (needed, free) if needed > _SHARE_OF_FREE_MEMORY * free else None

    def copy(self, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        """A copy on the host. The n-th copy of each save uses the same memory, if the sizes agree."""
        source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        target = self._next(storage.nbytes())
        if source.is_cuda:
            _copy_through_pinned_buffers(source, target)
        else:
            target.copy_(source)
        return target.untyped_storage()

    def _next(self, size: int) -> torch.Tensor:
        if self._used == len(self._buffers):
            self._buffers.append(torch.empty(size, dtype=torch.uint8))
        elif self._buffers[self._used].numel() != size:
            self._buffers[self._used] = torch.empty(size, dtype=torch.uint8)
        self._used += 1
        return self._buffers[self._used - 1]


def _copy_through_pinned_buffers(source: torch.Tensor, target: torch.Tensor) -> None:
    """Two buffers in turn: one is filled by the GPU while the other is emptied by the CPU."""
    buffers = [torch.empty(BUFFER_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    arrived = [torch.cuda.Event() for _ in buffers]
    starts = range(0, source.numel(), BUFFER_BYTES)
    for number in range(len(starts) + 1):
        if number < len(starts):
            part = source[starts[number] : starts[number] + BUFFER_BYTES]
            buffers[number % 2][: part.numel()].copy_(part, non_blocking=True)
            arrived[number % 2].record()
        if number > 0:
            arrived[(number - 1) % 2].synchronize()
            part = target[starts[number - 1] : starts[number - 1] + BUFFER_BYTES]
            part.copy_(buffers[(number - 1) % 2][: part.numel()])
