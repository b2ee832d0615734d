"""Parameters that stage 3 gathers on each rank while a module needs them.

Source: deepspeed/runtime/zero/partitioned_param_coordinator.py: fetch_sub_module, __params_to_release. What
is kept for reuse was read off a trace on two GPUs.
"""

from collections.abc import Sequence

from zpipe.memory.sizes import Sizes
from zpipe.memory.tape import GATHERS, Tape

TERM = "gathered parameters"


class Gathered:
    """Units are what is fetched together: the embedding, each layer, and what is behind them.

    One rank gathers nothing, unless its parameters are on the host.
    """

    def __init__(self, tape: Tape, sizes: Sizes, units: Sequence[int], is_tied: bool) -> None:
        self._tape, self._sizes = tape, sizes
        self._units = units
        """Elements of each."""
        self._is_tied = is_tied
        """Whether the last unit uses the first one again."""
        self._is_needed = sizes.stage == 3 and (sizes.ranks > 1 or sizes.parameter_device != "none")

    def forward(self, unit: int) -> None:
        """Fetches the unit and what is prefetched; releases the unit before, unless it is reused soon."""
        self._fetch(unit, 1)
        if self._is_tied and unit == len(self._units) - 1:
            self._take(0)
        if self._is_needed and unit and self._distance(unit - 1) > self._sizes.zero.reuse:
            self._tape.drop(_name(unit - 1))

    def backward(self, unit: int) -> None:
        self._fetch(unit, -1)
        if self._is_tied and unit == len(self._units) - 1:
            self._take(0)
        self._tape.drop(_name(unit + 1))

    def end(self) -> None:
        self._tape.drop(*map(_name, range(len(self._units))))

    def _fetch(self, unit: int, direction: int) -> None:
        ahead = 0
        while 0 <= unit < len(self._units) and ahead <= self._sizes.zero.prefetch:
            self._take(unit)
            unit += direction
            ahead += self._units[unit] if 0 <= unit < len(self._units) else 0

    def _take(self, unit: int) -> None:
        if self._is_needed and not self._tape.is_alive(_name(unit)):
            self._tape.take(_name(unit), self._sizes.element * self._units[unit], TERM, GATHERS)

    def _distance(self, unit: int) -> int:
        """Elements that are used before the unit is used again."""
        used_again_at = len(self._units) if unit or not self._is_tied else len(self._units) - 1
        return sum(self._units[unit or 1 : used_again_at])


def _name(unit: int) -> str:
    return f"gathered {unit}"
