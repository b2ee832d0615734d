"""The fp32 weights that the optimizer updates, from the shards of a checkpoint.

The files may be of anybody: whatever they hold instead of shards is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.problems import Problem, Refusal
from zpipe.train.refusals import one_line
from zpipe.train.shards import Shards
from zpipe.train.swapped_masters import map_swapped_masters

_NO_SHARDS = (RuntimeError, OSError, LookupError, TypeError, ValueError, AttributeError)


_MOST_MAPPED_BYTES = 64 << 20


class MasterWeights:
    """The masters, and in their own formats the parameters that are not trained, and the buffers."""

    def __init__(self, checkpoint: Path) -> None:
        """Raises Refusal for shards that are none, or do not fit together."""
        self._checkpoint, self._bytes_read = checkpoint, 0
        with self._refusing():
            self._shards = shards = _opened(checkpoint)
            self._frozen = set(shards.frozen_names())
            self._buffers = {name: value.clone() for name, value in shards.buffers().items()}
            trained = {name: shards.shape(name) for name in shards.names()}
            others = {name: tuple(self.tensor(name).shape) for name in (*self._frozen, *self._buffers)}
            tied = shards.tied()
        self.shapes = {name: shape for name, shape in {**trained, **others}.items() if name not in tied}
        plural = "" if shards.world_size == 1 else "s"
        self.kind = f"the master weights in {shards.world_size} shard{plural} of stage {shards.stage}"

    def dtype(self, name: str) -> torch.dtype:
        return self.tensor(name).dtype if name in self._frozen or name in self._buffers else torch.float32

    def tensor(self, name: str) -> torch.Tensor:
        """The whole tensor in host memory; do not change it. Raises Refusal if the shards lack a part."""
        with self._refusing():
            if name in self._buffers:
                buffer: torch.Tensor = self._buffers[name]
                return buffer
            self._renew()
            found: torch.Tensor = (
                self._shards.frozen(name) if name in self._frozen else self._shards.master(name)
            )
            self._bytes_read += found.numel() * found.element_size()
            return found

    def _renew(self) -> None:
        """Maps the files anew from time to time: what was read of them counts as memory of this process."""
        if self._bytes_read >= _MOST_MAPPED_BYTES:
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
