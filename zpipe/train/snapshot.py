"""A copy of a state as it is now, from which it can be written while the training changes the original.

Everything but the tensors is pickled at once, as torch.save would. The tensors are copied to host memory.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any

import torch

from zpipe.train.host_buffers import HostBuffers

Copy = Callable[[torch.UntypedStorage], torch.UntypedStorage]


class Snapshot:
    """A state whose tensors are still the original ones, until `copied` replaces them."""

    def __init__(self, state: Any) -> None:
        file = io.BytesIO()
        pickler = _TensorsApart(file)
        pickler.dump(state)
        self._pickled = file.getvalue()
        self._tensors = pickler.tensors

    def storages(self) -> list[torch.UntypedStorage]:
        """Those behind the tensors, each once."""
        return list({_key(tensor): tensor.untyped_storage() for tensor in self._tensors}.values())

    def is_on_gpu(self) -> bool:
        """Whether a tensor is."""
        return any(tensor.is_cuda for tensor in self._tensors)

    def copy_to(self, buffers: HostBuffers) -> None:
        """Replaces the tensors by copies; those that share a storage still do."""
        copies = {_key(storage): buffers.copy(storage) for storage in self.storages()}
        self._tensors = [_view(copies[_key(tensor)], tensor) for tensor in self._tensors]

    def state(self) -> Any:
        """The state with the tensors that the snapshot has now."""
        return _TensorsBack(io.BytesIO(self._pickled), self._tensors).load()


class _TensorsApart(pickle.Pickler):
    """Pickles everything but the tensors, which are numbered."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[torch.Tensor] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, value: Any) -> int | None:
        # Other classes pickle themselves; an empty tensor has nothing to copy.
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or not _has_storage(value):
            return None
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self._numbers[id(value)]


class _TensorsBack(pickle.Unpickler):
    """Reads what this process has pickled a moment before."""

    def __init__(self, file: io.BytesIO, tensors: list[torch.Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, number: Any) -> torch.Tensor:
        return self._tensors[number]


def _has_storage(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type in ("cpu", "cuda") and tensor.numel() > 0


def _key(value: torch.Tensor | torch.UntypedStorage) -> int:
    storage = value.untyped_storage() if isinstance(value, torch.Tensor) else value
    return storage.data_ptr()


def _view(storage: torch.UntypedStorage, tensor: torch.Tensor) -> torch.Tensor:
    view = torch.empty(0, dtype=tensor.dtype).set_(
        storage, tensor.storage_offset(), tensor.size(), tensor.stride()
    )
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(view, tensor.requires_grad)
    return view.requires_grad_(tensor.requires_grad)
