"""What a plan tells of a choice: candidates with their figures, why the first was taken, what was assumed."""

from humanize import naturalsize

from zpipe.plans.choice import AutoChoice, Candidate
from zpipe.plans.plan import Notice
from zpipe.plans.provenance import CHOSEN
from zpipe.schema.experiment import Experiment
from zpipe.search.candidates import measured_why
from zpipe.search.fitting import Judge
from zpipe.search.measured import Measurement, Results
from zpipe.search.search import Combination, Found
from zpipe.search.settings import differences
from zpipe.search.speed import step_time
from zpipe.search.workload import Workload


def account_of(groups: list[str], found: Found, judge: Judge, work: Workload, results: Results) -> AutoChoice:
    """The choice, its runners-up, and why; `settings` are left to the caller."""
    best, *others = found.best
    told = [_candidate(each, best, judge, work, results.get(each)) for each in (best, *others)]
    notes = [f"{name} is not known; a neutral value ranks the settings" for name in work.assumed]
    return AutoChoice(
        groups=groups,
        settings=[],
        chosen=told[0],
        runners_up=[each for each in told[1:] if each.differs],
        compared=found.compared,
        too_large=found.too_large,
        refused=found.refused,
        why=f"{CHOSEN}{measured_why(told) or _why(found, judge, best)}",
        notes=notes,
    )


def _why(found: Found, judge: Judge, best: Combination) -> str:
    if found.smallest is not None:
        return f"none of {found.compared} combinations is predicted to fit; this one needs least of the GPU"
    fits = judge.fits_of(best.shape, best.setup.micro_batch)
    room = next(
        (f", {in_words(fit.used)} of {in_words(fit.limit)} per GPU" for fit in fits if fit.resource == "GPU"),
        "",
    )
    fit = "that fits" if all(fit.verdict == "fits" for fit in fits) else "that may fit"
    return f"the fastest of {found.compared} combinations {fit}: {best.speed:,.0f} tokens/s predicted{room}"


def _candidate(
    each: Combination, best: Combination, judge: Judge, work: Workload, known: Measurement | None
) -> Candidate:
    prediction = judge.prediction(each.shape, each.setup.micro_batch, reserves=False)
    gpu, host = (prediction.gpu, prediction.host) if prediction is not None else (None, None)
    return Candidate(
        differs=differences(best, each),
        tokens_per_second=each.speed,
        measured_tokens_per_second=known.tokens_per_second if known is not None else None,
        measured_on=known.day if known is not None else None,
        probe_failed=(known.failed or None) if known is not None else None,
        gpu_allocated=None if gpu is None else gpu.allocated.total,
        host=None if host is None else host.node,
        largest=step_time(work, each.setup).largest,
    )


def notices_of(choice: AutoChoice | None, experiment: Experiment) -> list[Notice]:
    """What changes with the machine, and what was assumed."""
    if choice is None or choice.chosen is None:
        return []
    notices = [Notice(level="info", key="auto", text=text) for text in choice.notes]
    if "batch" in choice.groups and experiment.batch.sequences is None:
        key = "batch.global_batch_size"
        text = (
            f"losses depend on the global batch, which follows from the chosen micro-batch: {key}=N fixes it"
        )
        notices.append(Notice(level="advice", key=key, text=text))
    return notices


def in_words(count: int) -> str:
    return naturalsize(count, binary=True)
