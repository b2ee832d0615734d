"""Which combinations a run measures, and what is chosen once some of them were measured."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.plans.choice import Candidate
from zpipe.problems import Problem, Refusal, either
from zpipe.schema.auto import Automatic
from zpipe.schema.experiment import Experiment
from zpipe.search.identity import about, settings_of_shape, workload_digest
from zpipe.search.measured import Results
from zpipe.search.search import SHOWN, Combination, Found, Search
from zpipe.search.settings import headline
from zpipe.search.shapes import with_micro_batch

ON_A_GPU = 3
"""Combinations that are measured unless a number is given."""
_WORTHWHILE = 0.6
"""Of the predicted speed of the choice: errors of the prediction are smaller."""
_BESIDE = (1, -1, 2, -2, 3)
"""Micro-batches, counted from that of the choice."""
_FASTER = 1.1
"""Times the prediction of everything that was measured: what is predicted to be that fast is measured first
the next time, and preferred until then."""


@dataclass(frozen=True)
class Trial:
    """A combination that a short run is to measure."""

    experiment: Experiment
    """With nothing automatic."""
    workload: str
    about: str
    title: str
    predicted: float
    """Tokens per second."""
    settings: dict[str, Any]
    micro_batch: int
    accumulation: int


def wanted(experiment: Experiment, facts: Facts) -> int:
    """How many combinations a run measures."""
    auto = experiment.auto
    if auto.probes is not None:
        return auto.probes
    return ON_A_GPU if auto.measure and facts.device == "cuda" else 0


def candidates(search: Search, found: Found, count: int) -> list[Combination]:
    """What is measured before a run, the choice first."""
    return [] if found.smallest is not None else list(islice(_in_turn(search, found), count))


def _in_turn(search: Search, found: Found) -> Iterator[Combination]:
    """The choice, its neighbors in size and the best of other shapes.

    The next larger micro-batch comes first, because it may be left out for the error of the memory alone.
    """
    choice, *others = found.best
    worthwhile = [each for each in others if each.speed >= _WORTHWHILE * choice.speed]
    yield choice
    for place, steps in enumerate(_BESIDE):
        if (other := search.beside(choice, steps)) is not None:
            yield other
        yield from map(search.simplest, worthwhile[place : place + 1])


def trials_of(combinations: list[Combination], experiment: Experiment, facts: Facts) -> tuple[Trial, ...]:
    """`experiment` is the one that is searched."""
    if not combinations:
        return ()
    workload, text = workload_digest(experiment, facts), about(facts)
    return tuple(_trial(each, workload, text) for each in combinations)


def _trial(one: Combination, workload: str, text: str) -> Trial:
    setup = one.setup
    experiment = one.shape.experiment
    if experiment.auto.batch:
        experiment = with_micro_batch(experiment, setup.micro_batch)
    return Trial(
        experiment=experiment.model_copy(update={"auto": Automatic()}),
        workload=workload,
        about=text,
        title=headline(one),
        predicted=one.speed,
        settings=settings_of_shape(one.shape.experiment),
        micro_batch=setup.micro_batch,
        accumulation=setup.accumulation,
    )


def with_measured(group: str, found: Found, search: Search, results: Results) -> Found:
    """The measured combinations first, the fastest of them as the choice, then those that were predicted.

    `found` has none that ran out of memory. Raises Refusal if nothing is left.
    """
    every = results.combinations(search)
    tried = [each for each in every if search.may_fit(each)]
    if not found.best and not any(map(results.speed, tried)):
        raise Refusal([_nothing_left(group, every[0])])
    if not tried:
        return found

    def speed(one: Combination) -> float:
        return search.speed_in_run(one, results.speed(one))

    fast = sorted(filter(results.speed, tried), key=speed, reverse=True)
    rest = [each for each in found.best if results.get(each) is None] if fast else found.best
    failed = [each for each in tried if not results.speed(each) and each not in rest]
    is_beaten = bool(rest) and rest[0].speed > _FASTER * max(each.speed for each in tried)
    first = rest[:1] if is_beaten or not fast else []
    kinds = {each.shape.kind for each in (*first, *fast)}
    others = [each for each in rest if each.shape.kind not in kinds]
    best = [*first, *fast, *failed, *others]
    return replace(found, best=best[: max(SHOWN, len(tried) + 1)])


def _nothing_left(group: str, one: Combination) -> Problem:
    ran_out = "ran out of memory when it was measured"
    reason = f"every combination that may fit {ran_out}, such as {headline(one)}"
    allowed = "a machine that holds the model, or a smaller data.max_length"
    return Problem(group, "auto", reason, allowed, either("auto.measure=again"))


def measured_why(told: list[Candidate]) -> str:
    """Why the first of these was chosen, if it was measured."""
    first, speeds = told[0], [each for each in told if each.measured_tokens_per_second is not None]
    speed = first.measured_tokens_per_second
    if speed is None:
        return ""
    which = f"the fastest of {len(speeds)} that were" if len(speeds) > 1 else "the only one that was"
    failed = sum(each.probe_failed is not None for each in told)
    others = f" ({failed} failed)" if failed else ""
    return f"{which} measured{others}: {speed:,.0f} tokens/s, measured on {first.measured_on}"
