"""Copies the tensors of a checkpoint to host memory through pinned buffers before torch.save writes them.

torch.save copies each GPU tensor into pageable memory by itself, at 1.4 GiB/s on an H200 where pinned memory
reaches 50; the disk then waits for the copy (benchmarks/RESULTS.md).
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from zpipe.machine.host_memory import HostMemoryReader

BUFFER_BYTES = 1 << 26
_SHARE_OF_FREE_MEMORY = 0.5
"""A larger checkpoint is written as torch.save does it, tensor by tensor."""


def save_through_pinned_buffers() -> None:
    """Makes DeepSpeed's checkpoint engine copy GPU tensors this way. The files stay the same."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    TorchCheckpointEngine.save = _save


def _save(engine: Any, state_dict: Any, path: str) -> None:
    torch.save(on_host(state_dict), path, _use_new_zipfile_serialization=engine.zipfile_serialization)


def on_host(state: Any) -> Any:
    """The same containers with CPU tensors; tensors that share a storage still do.

    Returns the state itself if nothing is on a GPU, or if host memory has too little room.
    """
    storages = {_key(tensor): tensor.untyped_storage() for tensor in _gpu_tensors(state)}
    needed = sum(storage.nbytes() for storage in storages.values())
    if not storages or needed > _SHARE_OF_FREE_MEMORY * _free_host_memory():
        return state
    copied = {key: _copied(storage) for key, storage in storages.items()}
    return _mapped(state, lambda tensor: _view(copied[_key(tensor)], tensor))


def _free_host_memory() -> int:
    """Bytes that are left to all ranks of this machine."""
    memory = HostMemoryReader().read()
    return memory.limit - memory.used


def _copied(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """Two buffers in turn: one is filled by the GPU while the other is emptied by the CPU."""
    source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    target = torch.empty(storage.nbytes(), dtype=torch.uint8)
    buffers = [torch.empty(BUFFER_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    arrived = [torch.cuda.Event() for _ in buffers]
    starts = range(0, storage.nbytes(), BUFFER_BYTES)
    for number in range(len(starts) + 1):
        if number < len(starts):
            part = source[starts[number] : starts[number] + BUFFER_BYTES]
            buffers[number % 2][: part.numel()].copy_(part, non_blocking=True)
            arrived[number % 2].record()
        if number > 0:
            arrived[(number - 1) % 2].synchronize()
            part = target[starts[number - 1] : starts[number - 1] + BUFFER_BYTES]
            part.copy_(buffers[(number - 1) % 2][: part.numel()])
    return target.untyped_storage()


def _view(storage: torch.UntypedStorage, tensor: torch.Tensor) -> torch.Tensor:
    view = torch.empty(0, dtype=tensor.dtype).set_(
        storage, tensor.storage_offset(), tensor.size(), tensor.stride()
    )
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(view, tensor.requires_grad)
    return view.requires_grad_(tensor.requires_grad)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _gpu_tensors(value: Any) -> Iterator[torch.Tensor]:
    if _is_gpu_tensor(value):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _gpu_tensors(each)
    elif type(value) in (list, tuple):
        for each in value:
            yield from _gpu_tensors(each)


def _is_gpu_tensor(value: Any) -> bool:
    return type(value) in (torch.Tensor, torch.nn.Parameter) and value.is_cuda and value.numel() > 0


def _mapped(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """A copy of the containers with each GPU tensor changed; everything else is taken as it is."""
    if _is_gpu_tensor(value):
        return change(value)
    if isinstance(value, dict):
        mapped = copy.copy(value)
        for name, each in value.items():
            mapped[name] = _mapped(each, change)
        return mapped
    if type(value) in (list, tuple):
        return type(value)(_mapped(each, change) for each in value)
    return value
