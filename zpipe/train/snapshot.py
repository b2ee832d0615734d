"""A copy of a state as it is now, from which it can be written while the training changes the original.

Everything but the tensors is pickled at once, as torch.save would. The tensors are copied to host memory,
which may happen later, as long as nothing has changed them.
"""

import io
import pickle
from collections.abc import Callable, Container
from typing import Any

import torch

from zpipe.train.host_buffers import HostBuffers, copy_all


class Snapshot:
    """A state whose tensors are still the original ones, until `copy` replaces them.

    What `is_copy` is true of was copied already.
    """

    def __init__(self, state: Any, is_copy: Callable[[torch.UntypedStorage], bool] = lambda _: False) -> None:
        file = io.BytesIO()
        pickler = _TensorsApart(file)
        pickler.dump(state)
        self._pickled = file.getvalue()
        self._tensors = pickler.tensors
        self._is_copy = is_copy
        self._targets: list[tuple[torch.UntypedStorage, torch.Tensor]] = []

    def storages(self) -> list[torch.UntypedStorage]:
        """Those behind the tensors that are to be copied, each once."""
        found = {_key(tensor): tensor.untyped_storage() for tensor in self._tensors}
        return [storage for storage in found.values() if not self._is_copy(storage)]

    def is_on_gpu(self) -> bool:
        """Whether a tensor is."""
        return any(tensor.is_cuda for tensor in self._tensors)

    def reserve(self, buffers: HostBuffers) -> None:
        """Takes the memory for the copies."""
        self._targets = [(storage, buffers.next(storage.nbytes())) for storage in self.storages()]

    def copy(self, only: Container[int] | None = None) -> None:
        """Replaces tensors by copies in the reserved memory; those that share a storage still do.

        `only` those with storages at these addresses.
        """
        chosen = [pair for pair in self._targets if only is None or _key(pair[0]) in only]
        copy_all(chosen)
        copies = {_key(storage): target.untyped_storage() for storage, target in chosen}
        self._tensors = [
            _view(copies[_key(tensor)], tensor) if _key(tensor) in copies else tensor
            for tensor in self._tensors
        ]
        self._targets = [
            (storage, target) for storage, target in self._targets if _key(storage) not in copies
        ]

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
