"""Host memory into which tensors are copied at a save; each save fills the same memory again.

A GPU copies into pinned memory at 50 GiB/s, and into other memory at 1.4 (an H200, benchmarks/RESULTS.md).
torch would round each pinned tensor up to a power of two, so memory of the exact size is pinned here.
"""

import mmap
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from zpipe.machine.host_memory import HostMemoryReader

_SHARE_OF_FREE_MEMORY = 0.5
"""Of what is free on this machine, for the copies of all its ranks together."""
_MAPPED_BYTES = 1 << 21
"""Of the size of a huge page: smaller tensors are not worth pages of their own."""
_PART_BYTES = 1 << 26
_THREADS = 4


class HostBuffers:
    """One for each rank. Between `begin` and the next one, each storage is copied once."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._memory = HostMemoryReader()
        self._buffers: list[torch.Tensor] = []
        self._used = 0
        self._handed_out: set[int] = set()
        """Addresses of the buffers in use."""
        self._untouched = 0
        """Bytes that were handed out and do not take memory before they are filled."""

    def begin(self) -> None:
        """What was copied before is no longer needed."""
        self._used = 0
        self._handed_out.clear()
        self._untouched = 0

    def lacking(self, storages: Iterable[torch.UntypedStorage]) -> tuple[int, int] | None:
        """Needed and free bytes if copies of these storages do not fit into host memory; None if they do."""
        sizes = [storage.nbytes() for storage in storages]
        reused = self._buffers[self._used : self._used + len(sizes)]
        pairs = zip(sizes, [buffer.numel() for buffer in reused] + [0] * len(sizes), strict=False)
        needed = self._ranks * sum(size for size, there in pairs if size != there)
        free = self._memory.read().free - self._ranks * self._untouched
        return (needed, free) if needed > _SHARE_OF_FREE_MEMORY * free else None

    def owns(self, storage: torch.UntypedStorage) -> bool:
        """Whether it was handed out since `begin`."""
        return storage.data_ptr() in self._handed_out

    def next(self, size: int) -> torch.Tensor:
        """This many bytes for a copy. The n-th of each save are the same memory, if the sizes agree."""
        old = self._buffers[self._used : self._used + 1]
        if not old or old[0].numel() != size:
            _unpin(old)
            self._buffers[self._used : self._used + 1] = [_new(size)]
            self._untouched += size
        buffer = self._buffers[self._used]
        self._used += 1
        self._handed_out.add(buffer.data_ptr())
        return buffer


class CopiesIntoBuffers(TorchFunctionMode):
    """Within it, `tensor.cpu()` of a GPU tensor uses these buffers: DeepSpeed gathers weights with it."""

    def __init__(self, buffers: HostBuffers) -> None:
        super().__init__()
        self._buffers = buffers

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.Tensor.cpu or not args[0].is_cuda:
            return func(*args, **(kwargs or {}))
        source = args[0].contiguous()
        buffer = self._buffers.next(source.nbytes)
        _pin(buffer)
        return buffer.view(source.dtype).view(source.shape).copy_(source)


def copy_all(pairs: Iterable[tuple[torch.UntypedStorage, torch.Tensor]]) -> None:
    """Fills each buffer from its storage, and returns when all are filled.

    The storages must not change meanwhile, and the GPU must be done with what it writes to them.
    """
    sources = [(_bytes_of(storage), target) for storage, target in pairs]
    on_gpu = [(source, target) for source, target in sources if source.is_cuda]
    if not sources:
        return
    parts = [part for source, target in sources if not source.is_cuda for part in _parts(source, target)]
    with ThreadPoolExecutor(_THREADS, "zpipe-copy") as pool:
        # CUDA remembers a refused pinning for its thread, which must not be that of the training.
        from_gpu = pool.submit(_copy_from_gpu, on_gpu)
        list(pool.map(lambda part: part[1].copy_(part[0]), parts))
        from_gpu.result()


def _copy_from_gpu(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """On a stream of its own, beside the kernels of the training."""
    if not pairs:
        return
    with torch.cuda.device(pairs[0][0].device):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for source, target in pairs:
                _pin(target)
                target.copy_(source, non_blocking=True)
        stream.synchronize()


def _new(size: int) -> torch.Tensor:
    """Memory that is not there before it is filled, in huge pages where the system has them."""
    if size < _MAPPED_BYTES:
        return torch.empty(size, dtype=torch.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in ("MADV_HUGEPAGE", "MADV_DONTFORK"):  # a child could take over pages that a GPU writes to
        if hasattr(mmap, advice):
            memory.madvise(getattr(mmap, advice))
    return torch.frombuffer(memory, dtype=torch.uint8)


def _pin(buffer: torch.Tensor) -> None:
    """Pins a large buffer. Where the system refuses it, the copy is slower, and as good."""
    if buffer.numel() >= _MAPPED_BYTES and not buffer.is_pinned():
        torch.cuda.cudart().cudaHostRegister(buffer.data_ptr(), buffer.numel(), 0)


def _unpin(buffers: list[torch.Tensor]) -> None:
    for buffer in buffers:
        if torch.cuda.is_initialized() and buffer.numel() >= _MAPPED_BYTES and buffer.is_pinned():
            torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())


def _bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _parts(source: torch.Tensor, target: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, source.numel(), _PART_BYTES):
        yield source[start : start + _PART_BYTES], target[start : start + _PART_BYTES]
