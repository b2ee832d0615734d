"""Plans whose predicted memory the machine does not have."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice

from humanize import naturalsize
from pydantic import ValidationError

from zpipe.checks.memory_ladder import Overrides, nearest_plans
from zpipe.facts.facts import Facts, with_settings
from zpipe.memory.predict import band_of, predict_memory
from zpipe.memory.verdict import fits_of, parameters_exceed_gpu
from zpipe.plans.memory import Fit, MemoryPrediction, Term, Verdict
from zpipe.plans.plan import Notice
from zpipe.problems import Fix, Problem, either
from zpipe.schema.changed import changed, completed
from zpipe.schema.experiment import Experiment

_KEY = "memory.check"
_LARGEST = 3
"""Terms that are named."""
_PROPOSED = 3
"""Plans that fit, of those that are near."""

_WORSE: tuple[Verdict, ...] = ("fits", "tight", "does not fit")
_ACCEPTABLE: tuple[tuple[Verdict, ...], ...] = (("fits",), ("fits", "tight"))
"""First what surely fits, then what may."""

Accepts = Callable[[Experiment, Facts], bool]
"""Whether no other rule refuses these settings."""


def predicted_problems(experiment: Experiment, facts: Facts, accepts: Accepts) -> list[Problem]:
    """Those of a plan whose memory is not predicted yet."""
    return list(memory_problems(experiment, facts, predict_memory(experiment, facts), accepts))


def memory_problems(
    experiment: Experiment, facts: Facts, prediction: MemoryPrediction | None, accepts: Accepts
) -> Iterator[Problem]:
    """The run would end for lack of memory, even if the prediction is too high by its whole error."""
    lacking = [fit for fit in _fits(prediction, experiment, facts) if fit.verdict == "does not fit"]
    if prediction is None or not lacking or experiment.memory.check == "warn":
        return
    fix = _nearest(experiment, facts, accepts)
    for fit in lacking:
        yield Problem(_KEY, "refuse", _reason(fit, prediction), f"at most {_size(fit.limit)}", fix)


def memory_notices(
    experiment: Experiment, facts: Facts, prediction: MemoryPrediction | None
) -> Iterator[Notice]:
    """A run that may not fit, and one that is started although it is predicted not to."""
    for fit in _fits(prediction, experiment, facts):
        if prediction is not None and fit.verdict != "fits":
            text = f"{fit.verdict}: {_reason(fit, prediction)}"
            yield Notice(level="warning", key=_KEY, text=text)


def _fits(prediction: MemoryPrediction | None, experiment: Experiment, facts: Facts) -> list[Fit]:
    return [] if prediction is None else list(fits_of(prediction, experiment, facts))


def _reason(fit: Fit, prediction: MemoryPrediction) -> str:
    """The peak, the limit, and what takes most."""
    what = {"GPU": "the fullest GPU", "host": "the host", "disk": "the disk"}[fit.resource]
    held = f", beside {_size(fit.held)} that other processes hold" if fit.held else ""
    terms = sorted(_terms(fit, prediction), key=lambda term: term.bytes, reverse=True)[:_LARGEST]
    largest = ", ".join(f"{term.name} {_size(term.bytes)}" for term in terms)
    return (
        f"{what} is predicted to need {_size(fit.used)} ({prediction.error_of(fit.resource)}) and has "
        f"{_size(fit.limit)}{held}; most of it for {largest}"
    )


def _terms(fit: Fit, prediction: MemoryPrediction) -> list[Term]:
    gpu, host = prediction.gpu, prediction.host
    if fit.resource == "GPU" and gpu is not None:
        return [*gpu.allocated.terms, *gpu.cache.terms, *gpu.context.terms]
    if fit.resource == "host" and host is not None:
        ranks = [term.model_copy(update={"bytes": term.bytes * host.ranks}) for term in host.rank.terms]
        return [*ranks, *host.shared.terms]
    return prediction.swap_files.terms


def _nearest(experiment: Experiment, facts: Facts, accepts: Accepts) -> Fix:
    """Changes with which it fits, else with which it may fit, else the same plan without this check."""

    @cache
    def judged(overrides: Overrides) -> Verdict | None:
        return _verdict_with(overrides, experiment, facts, accepts)

    def fits(allowed: tuple[Verdict, ...]) -> Callable[[Overrides], bool]:
        return lambda overrides: judged(overrides) in allowed

    for allowed in _ACCEPTABLE:
        found = list(islice(nearest_plans(experiment, facts, fits(allowed)), _PROPOSED))
        if found:
            return either(*(" ".join(completed(experiment, each)) for each in found))
    return either(f"{_KEY}=warn")


def _verdict_with(
    overrides: Overrides, experiment: Experiment, facts: Facts, accepts: Accepts
) -> Verdict | None:
    """The worst verdict with these changes; None if they change nothing, or are refused or not predicted."""
    try:
        other = changed(experiment, completed(experiment, overrides))
    except ValidationError:
        return None
    their_facts = with_settings(facts, other)
    if other == experiment or not accepts(other, their_facts):
        return None
    if parameters_exceed_gpu(other, their_facts, band_of(their_facts)):
        return "does not fit"
    worst: Verdict | None = None
    for reserves in (False, True):  # what the allocator adds takes long to predict
        fits = _fits(predict_memory(other, their_facts, reserves=reserves), other, their_facts)
        worst = max((fit.verdict for fit in fits), key=_WORSE.index, default=None)
        if worst == "does not fit":
            break
    return worst


def _size(count: int) -> str:
    return naturalsize(count, binary=True)
