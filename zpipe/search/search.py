"""The fastest combination that fits, and those that come after it.

Predicting memory takes a thousand times longer than predicting speed, so combinations are looked at in the
order of the speed that they could have at most, until none that is left could be the fastest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from zpipe.facts.facts import with_settings
from zpipe.plans.memory import Resource
from zpipe.search.fitting import Judge
from zpipe.search.shapes import OFFLOADS, Shape, with_micro_batch
from zpipe.search.speed import step_time, tokens_per_second
from zpipe.search.workload import Setup, Workload, setup_of

AS_FAST = 0.99
"""Of two speeds that are this near to each other, the simpler settings win."""
SHOWN = 4
"""Combinations with different shapes: the choice and its runners-up."""
_PATIENCE = 4
"""Shapes that are looked at for runners-up, once one fits."""

NOTHING: Mapping[Shape, int] = MappingProxyType({})
_GPU: tuple[Resource, ...] = ("GPU",)


@dataclass(frozen=True)
class Combination:
    """A shape with its micro-batch."""

    shape: Shape
    setup: Setup
    speed: float
    """Tokens per second of all devices."""

    @property
    def simplicity(self) -> tuple[int, ...]:
        """What is compared at equal speed; the lowest is the simplest."""
        shape = self.shape
        rank = OFFLOADS.index(shape.option) if shape.option in OFFLOADS else 0
        is_variant = shape.offload != shape.option
        return rank, is_variant, shape.stage, shape.recomputes, self.setup.micro_batch


@dataclass(frozen=True)
class Found:
    """What a search has found."""

    best: list[Combination]
    """The choice, then one of each other shape by speed; empty if nothing fits."""
    compared: int
    too_large: int
    refused: int
    smallest: Combination | None
    """What needs least of the GPU, if nothing fits."""


class Search:
    """One search over shapes and micro-batches, which ascend."""

    def __init__(self, work: Workload, judge: Judge, shapes: Sequence[Shape], micros: Sequence[int]) -> None:
        self._work, self._judge, self._micros = work, judge, list(micros)
        self._shapes = [shape for shape in shapes if judge.accepts(shape)]
        self._refused = (len(shapes) - len(self._shapes)) * len(self._micros)
        self._too_large = 0
        of_micro = {
            micro: with_settings(judge.facts, with_micro_batch(shapes[0].experiment, micro))
            for micro in micros
        }
        self.accumulation = {micro: facts.accumulation for micro, facts in of_micro.items()}
        """By micro-batch."""

    @property
    def shapes(self) -> list[Shape]:
        """Those that no rule refuses."""
        return self._shapes

    def combination(self, shape: Shape, micro_batch: int) -> Combination:
        return self._combinations(shape, [micro_batch])[0]

    def beside(self, one: Combination, steps: int) -> Combination | None:
        """The same shape so many micro-batches further, if that may fit."""
        place = self._micros.index(one.setup.micro_batch) + steps
        if not 0 <= place < len(self._micros):
            return None
        other = self.combination(one.shape, self._micros[place])
        return other if self.may_fit(other) else None

    def speed_in_run(self, one: Combination, measured: float) -> float:
        """With the compilation of the first step, which a measurement does not count."""
        time = step_time(self._work, one.setup)
        tokens = one.speed * time.total
        return tokens / (tokens / measured + time.compilation)

    def may_fit(self, one: Combination) -> bool:
        """Whether it is not known to be too large."""
        fits = self._judge.fits_of(one.shape, one.setup.micro_batch)
        return all(fit.verdict != "does not fit" for fit in fits)

    def simplest(self, one: Combination) -> Combination:
        """The same shape with the smallest micro-batch that is as fast."""
        smaller = [each for each in self._micros if each <= one.setup.micro_batch]
        return self._preferred(self._combinations(one.shape, smaller))

    def again(self, too_large: Mapping[Shape, int] = NOTHING) -> Found:
        """For a judge that decides in another way now; `too_large` has what ran out of memory."""
        self._judge.too_large.update(too_large)
        self._too_large = 0
        return self.run()

    def run(self) -> Found:
        """Never raises; without a combination that fits, `best` is empty."""
        fitting: dict[Shape, list[Combination]] = {}
        left = sorted(self._bounded(), key=lambda each: -max(one.speed for one in each))
        while True:
            left = self._look_at(left, fitting)
            choice = self._preferred(_all_of(fitting)) if fitting else None
            if choice is None or self._judge.fits(choice.shape, choice.setup.micro_batch, reserves=True):
                break
            self._drop(choice, fitting)
        best = [] if choice is None else [choice, *self._runners_up(choice, fitting)]
        return Found(
            best=best,
            compared=len(self._shapes) * len(self._micros) + self._refused,
            too_large=self._too_large,
            refused=self._refused,
            smallest=None if best or not self._shapes else self._smallest(),
        )

    def _look_at(
        self, candidates: list[list[Combination]], fitting: dict[Shape, list[Combination]]
    ) -> list[list[Combination]]:
        """Adds to `fitting` what fits without the allocator; returns what did not matter."""
        passed_over, looked = [], 0
        for each in candidates:
            if not self._matters(each, fitting, looked):
                passed_over.append(each)
                continue
            looked += bool(fitting)
            fits = self._judge.largest(each[0].shape, [one.setup.micro_batch for one in each])
            self._too_large += len(each) - fits
            if fits:
                fitting[each[0].shape] = each[:fits]
        return passed_over

    def _drop(self, one: Combination, fitting: dict[Shape, list[Combination]]) -> None:
        """With what the allocator adds it does not fit, nor does a larger micro-batch."""
        before = fitting.pop(one.shape)
        kept = [each for each in before if each.setup.micro_batch < one.setup.micro_batch]
        self._too_large += len(before) - len(kept)
        if kept:
            fitting[one.shape] = kept

    def _bounded(self) -> Iterator[list[Combination]]:
        """The combinations of each shape, without micro-batches for which the GPU is too small."""
        for layers in sorted({shape.layers for shape in self._shapes}):
            every = [shape for shape in self._shapes if shape.layers == layers]
            alike = [shape for shape in every if self._judge.fits_host(shape)]
            self._too_large += (len(every) - len(alike)) * len(self._micros)
            if not alike:
                continue
            most = self._most(alike)
            self._too_large += len(alike) * (len(self._micros) - most)
            if most:
                yield from (self._combinations(shape, self._micros[:most]) for shape in alike)

    def _most(self, shapes: list[Shape]) -> int:
        """How many micro-batches fit on the GPU with one of the shapes.

        As a rule that is the one with the highest stage and the most offload, but without master weights, as
        with fp32, or with several copies of small states another one needs less.
        """
        most = self._judge.largest(_leanest(shapes), self._micros, _GPU)
        kinds = {(shape.stage, shape.option) for shape in shapes}
        for kind in sorted(kinds):
            lean = _leanest([shape for shape in shapes if (shape.stage, shape.option) == kind])
            while most < len(self._micros) and self._judge.fits(lean, self._micros[most], _GPU):
                most += 1
        return most

    def _combinations(self, shape: Shape, micros: Sequence[int]) -> list[Combination]:
        setup = setup_of(shape.experiment, with_settings(self._judge.facts, shape.experiment))
        setups = [
            replace(setup, micro_batch=micro, accumulation=self.accumulation[micro]) for micro in micros
        ]
        return [Combination(shape, own, tokens_per_second(self._work, own)) for own in setups]

    def _matters(
        self, combinations: list[Combination], fitting: dict[Shape, list[Combination]], looked: int
    ) -> bool:
        """Whether the choice may be one of these, or another runner-up is wanted. All have the same shape."""
        kinds = {shape.kind for shape in fitting}
        is_new = combinations[0].shape.kind not in kinds
        if not fitting or (is_new and len(kinds) < SHOWN and looked < _PATIENCE):
            return True
        best = self._preferred(_all_of(fitting))
        bound = max(one.speed for one in combinations)
        is_simpler = min(one.simplicity for one in combinations) < best.simplicity
        return bound > best.speed / AS_FAST or (is_simpler and bound >= AS_FAST * best.speed)

    @staticmethod
    def _preferred(combinations: list[Combination]) -> Combination:
        """The simplest of the fastest."""
        fastest = max(one.speed for one in combinations)
        alike = [one for one in combinations if one.speed >= AS_FAST * fastest]
        return min(alike, key=lambda one: (one.simplicity, -one.speed))

    @staticmethod
    def _runners_up(choice: Combination, fitting: dict[Shape, list[Combination]]) -> Iterator[Combination]:
        """The fastest of each other kind."""
        left, found = _all_of(fitting), choice
        for _ in range(SHOWN - 1):
            left = [one for one in left if one.shape.kind != found.shape.kind]
            if not left:
                return
            found = max(left, key=lambda one: one.speed)
            yield found

    def _smallest(self) -> Combination:
        shape = min((_leanest(self._shapes), *self._shapes), key=self._gpu_bytes)
        return self._combinations(shape, self._micros[:1])[0]

    def _gpu_bytes(self, shape: Shape) -> int:
        prediction = self._judge.prediction(shape, self._micros[0], reserves=False)
        return prediction.gpu.used if prediction is not None and prediction.gpu is not None else 0


def _all_of(fitting: Mapping[Shape, list[Combination]]) -> list[Combination]:
    return [one for each in fitting.values() for one in each]


def _leanest(shapes: Sequence[Shape]) -> Shape:
    """The one that leaves most of the GPU to activations."""
    return max(shapes, key=lambda shape: (_moved(shape), shape.stage))


def _moved(shape: Shape) -> float:
    """How much lies elsewhere, in optimizers and models."""
    offload = shape.experiment.offload
    optimizer = offload.offload_optimizer
    states = 0.0 if optimizer.device == "none" else 1.0 if optimizer.ratio is None else optimizer.ratio
    return states + (offload.offload_param.device != "none")
