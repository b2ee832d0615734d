"""Parameters that stage 3 gathers on each rank while a module needs them.

Source: deepspeed/runtime/zero/partitioned_param_coordinator.py: fetch_sub_module, __params_to_release.
"""

from collections.abc import Sequence

from zpipe.memory.sizes import Sizes
from zpipe.memory.tape import Tape

TERM = "gathered parameters"


class Gathered:
    """Units are what is fetched together: the embedding, each layer, the head. One rank gathers nothing."""

    def __init__(self, tape: Tape, sizes: Sizes, units: Sequence[int]) -> None:
        self._tape, self._sizes = tape, sizes
        self._units = units
        """Elements of each, without persistent parameters."""
        self._is_needed = sizes.stage == 3 and (sizes.ranks > 1 or sizes.parameter_device != "none")

    def forward(self, unit: int) -> None:
        """Fetches the unit and those that are prefetched; releases the one before."""
        self._fetch(unit, 1)
        if self._is_needed and unit and self._distance_to_backward(unit - 1) > self._sizes.zero.reuse:
            self._tape.drop(_name(unit - 1))

    def backward(self, unit: int) -> None:
        self._fetch(unit, -1)
        self._tape.drop(_name(unit + 1))

    def end(self) -> None:
        self._tape.drop(*map(_name, range(len(self._units))))

    def _fetch(self, unit: int, direction: int) -> None:
        if not self._is_needed:
            return
        ahead = 0
        while 0 <= unit < len(self._units):
            if not self._tape.is_alive(_name(unit)):
                self._tape.take(_name(unit), self._sizes.element * self._units[unit], TERM)
            unit += direction
            if not 0 <= unit < len(self._units):
                return
            ahead += self._units[unit]
            if ahead > self._sizes.zero.prefetch:
                return

    def _distance_to_backward(self, unit: int) -> int:
        return 2 * sum(self._units[unit + 1 :])


def _name(unit: int) -> str:
    return f"gathered {unit}"
