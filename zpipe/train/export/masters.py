"""The fp32 weights that the optimizer updates, from the shards of a checkpoint.

The files may be of anybody: whatever they hold instead of shards is refused.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.problems import Problem, Refusal
from zpipe.train.export.pieces import Piece
from zpipe.train.refusals import one_line
from zpipe.train.shards import MASTER, Shards
from zpipe.train.swapped_masters import map_swapped_masters

_NO_SHARDS = (RuntimeError, OSError, LookupError, TypeError, ValueError, AttributeError)
_FP32_BYTES = 4
_LEAST_MAPPED_BYTES = 64 << 20
_MOST_RENEWALS = 256
"""While all weights are read once: with many ranks, opening all of their files takes a while."""


class MasterWeights:
    """The masters, and in their own formats the parameters that are not trained, and the buffers."""

    def __init__(self, checkpoint: Path) -> None:
        """Raises Refusal for shards that are none, or do not fit together."""
        self._checkpoint, self._bytes_read = checkpoint, 0
        self._last_frozen: tuple[str, torch.Tensor] | None = None
        with self._refusing():
            self._shards = shards = _opened(checkpoint)
            self._frozen = set(shards.frozen_names())
            self._buffers = {name: value.clone() for name, value in shards.buffers().items()}
            trained = {name: shards.shape(name) for name in shards.names()}
            others = {name: tuple(self._untrained(name).shape) for name in (*self._frozen, *self._buffers)}
            tied = shards.tied()
        self.shapes = {name: shape for name, shape in {**trained, **others}.items() if name not in tied}
        elements = sum(math.prod(shape) for shape in self.shapes.values())
        self.mapped_bytes = max(_LEAST_MAPPED_BYTES, elements * _FP32_BYTES // _MOST_RENEWALS)
        plural = "" if shards.world_size == 1 else "s"
        self.kind = f"the master weights in {shards.world_size} shard{plural} of stage {shards.stage}"

    def dtype(self, name: str) -> torch.dtype:
        with self._refusing():
            is_trained = name not in self._frozen and name not in self._buffers
            return torch.float32 if is_trained else self._untrained(name).dtype

    def part(self, name: str, piece: Piece) -> torch.Tensor:
        """A copy of a piece of the flattened tensor. Raises Refusal if the shards lack a part of it."""
        with self._refusing():
            self._renew()
            found: torch.Tensor
            if name in self._frozen or name in self._buffers:
                found = self._untrained(name).reshape(-1)[piece.start : piece.end].clone()
            else:
                found = self._shards.part(name, MASTER, piece.start, piece.numel)
            self._bytes_read += found.nbytes
            return found

    def _untrained(self, name: str) -> torch.Tensor:
        """A whole parameter that is not trained, or a buffer."""
        if name in self._buffers:
            buffer: torch.Tensor = self._buffers[name]
            return buffer
        if self._last_frozen is None or self._last_frozen[0] != name:
            self._last_frozen = name, self._shards.frozen(name)
        return self._last_frozen[1]

    def _renew(self) -> None:
        """Maps the files anew from time to time: what was read of them counts as memory of this process."""
        if self._bytes_read >= self.mapped_bytes:
            self._shards, self._bytes_read = _opened(self._checkpoint), 0

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except UnpicklingError:
            raise Refusal([self._problem("its shards hold objects that zpipe does not unpickle")]) from None
        except _NO_SHARDS as error:
            reraise_machine_error(error)
            raise Refusal([self._problem(f"its shards cannot be read: {one_line(error)}")]) from error

    def _problem(self, reason: str) -> Problem:
        return Problem("RUN", str(self._checkpoint), reason, "shards that DeepSpeed wrote at stage 1 to 3")


def _opened(checkpoint: Path) -> Shards:
    shards = Shards(checkpoint)
    map_swapped_masters(shards)
    return shards


def has_shards(checkpoint: Path) -> bool:
    """Whether there are files of this kind."""
    return any(checkpoint.glob("*/*zero_pp_rank_*_optim_states.pt"))
