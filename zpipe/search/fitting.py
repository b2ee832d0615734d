"""Whether settings fit, predicted once for each combination."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from zpipe.checks import accepts
from zpipe.facts.facts import Facts, with_settings
from zpipe.memory.disk import swapped_bytes
from zpipe.memory.host import host_memory
from zpipe.memory.predict import band_of, predict_memory
from zpipe.memory.sizes import sizes_of
from zpipe.memory.verdict import fits_of, parameters_exceed_gpu, room_for_swapping
from zpipe.plans.memory import Fit, MemoryPrediction, Resource, Verdict
from zpipe.schema.experiment import Experiment
from zpipe.search.shapes import Shape, with_micro_batch

_WORSE: tuple[Verdict, ...] = ("fits", "tight", "does not fit")
EVERY: tuple[Resource, ...] = ("GPU", "host", "disk")


@dataclass
class Judge:
    """Predicts memory with the facts of one plan. `allowed` is the worst verdict that is accepted."""

    facts: Facts
    smallest: int = 1
    """The micro-batch with which the rules are asked."""
    allowed: Verdict = "fits"
    too_large: dict[Shape, int] = field(default_factory=dict)
    """The smallest micro-batch that ran out of memory when it was measured."""
    _known: dict[tuple[Shape, int, bool], MemoryPrediction | None] = field(default_factory=dict)
    _accepted: dict[Shape, bool] = field(default_factory=dict)

    def accepts(self, shape: Shape) -> bool:
        """Whether the rules do, and the disk has room for swap files."""
        if shape not in self._accepted:
            experiment = with_micro_batch(shape.experiment, self.smallest)
            facts = with_settings(self.facts, experiment)
            room = has_room_for_swapping(experiment, facts)
            self._accepted[shape] = room and accepts(experiment, facts)
        return self._accepted[shape]

    def fits_host(self, shape: Shape) -> bool:
        """Whether the host has room, whatever the micro-batch: this is known without playing a step."""
        facts = with_settings(self.facts, shape.experiment)
        sizes = sizes_of(shape.experiment, facts)
        if sizes is None:
            return True
        host = host_memory(shape.experiment, facts, sizes)
        prediction = MemoryPrediction(gpu=None, host=host, band=band_of(facts))
        return self._are_allowed(fits_of(prediction, shape.experiment, facts))

    def largest(
        self, shape: Shape, micro_batches: Sequence[int], resources: Collection[Resource] = EVERY
    ) -> int:
        """How many of the micro-batches, which ascend, fit in these kinds of memory.

        Bisection is right, because tensors never take less with a larger micro-batch. What the allocator adds
        may, and is left out here.
        """
        low, high = 0, len(micro_batches)
        middle = high  # often all of them do, because others have been left out before
        while low < high:
            if self.fits(shape, micro_batches[middle - 1], resources):
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        return low

    def fits(
        self,
        shape: Shape,
        micro_batch: int,
        resources: Collection[Resource] = EVERY,
        *,
        reserves: bool = False,
    ) -> bool:
        """Without `reserves` what the allocator adds to the tensors is left out."""
        if micro_batch >= self.too_large.get(shape, micro_batch + 1):
            return False
        if "GPU" in resources and parameters_exceed_gpu(shape.experiment, self.facts, band_of(self.facts)):
            return False
        fits = self.fits_of(shape, micro_batch, reserves=reserves)
        return self._are_allowed(fit for fit in fits if fit.resource in resources)

    def _are_allowed(self, fits: Iterable[Fit]) -> bool:
        worst = _WORSE.index(self.allowed)
        return all(_WORSE.index(fit.verdict) <= worst for fit in fits)

    def fits_of(self, shape: Shape, micro_batch: int, *, reserves: bool = True) -> list[Fit]:
        prediction = self.prediction(shape, micro_batch, reserves=reserves)
        experiment = with_micro_batch(shape.experiment, micro_batch)
        return [] if prediction is None else list(fits_of(prediction, experiment, self.facts))

    def prediction(self, shape: Shape, micro_batch: int, *, reserves: bool = True) -> MemoryPrediction | None:
        key = shape, micro_batch, reserves
        if key not in self._known:
            experiment = with_micro_batch(shape.experiment, micro_batch)
            facts = with_settings(self.facts, experiment)
            self._known[key] = predict_memory(experiment, facts, reserves=reserves)
        return self._known[key]


def has_room_for_swapping(experiment: Experiment, facts: Facts) -> bool:
    """Whether the disk holds the swap files of a node. Unknown room is none, unless the user chose NVMe."""
    if not experiment.auto.offload:
        return True
    sizes = sizes_of(experiment, facts)
    needed = 0 if sizes is None else swapped_bytes(facts, sizes)
    room = room_for_swapping(experiment, facts)
    return not needed or (room is not None and needed < room)
