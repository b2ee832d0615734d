"""Resolves `GROUP=auto`: concrete settings for the plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zpipe.checks import problems_of_rules
from zpipe.checks.measuring import measuring_problems
from zpipe.facts.facts import Facts, with_settings
from zpipe.memory.sizes import sizes_of
from zpipe.plans.choice import AutoChoice
from zpipe.plans.effective import effective
from zpipe.plans.given import Given
from zpipe.plans.provenance import CHOSEN, Origin, Provenance
from zpipe.problems import Problem, Refusal, either, refuse_if_any
from zpipe.schema.auto import Automatic
from zpipe.schema.experiment import Experiment
from zpipe.search.account import account_of, in_words
from zpipe.search.candidates import Trial, candidates, trials_of, wanted, with_measured
from zpipe.search.fitting import Judge
from zpipe.search.going_on import as_before
from zpipe.search.measured import Measurement, Recalled, recall
from zpipe.search.search import NOTHING, Found, Search
from zpipe.search.settings import automatic_groups, headline, settings_of
from zpipe.search.shapes import Shape, micro_batches, shapes_of, with_micro_batch
from zpipe.search.workload import Workload, workload_of

UNKNOWN = "the memory of this model or optimizer cannot be predicted here, so nothing was compared"
ON_A_CPU = "on a CPU nothing is chosen, unless auto.probes=N measures it"
_WIDENING = ("stage", "offload", "batch", "activation_checkpointing")
_COMPILING = ("train.torch_compile", "train.torch_compile_backend", "train.torch_compile_mode")
GOES_ON = "so that the run in this folder goes on as it began"


@dataclass(frozen=True)
class Chosen:
    """What the plan is compiled from. Without `auto`, everything is as it was."""

    experiment: Experiment
    facts: Facts
    provenance: Provenance
    choice: AutoChoice | None = None
    trials: tuple[Trial, ...] = ()
    """What a run measures first."""
    known: tuple[Measurement, ...] = ()
    """What was measured before, of the same workload."""


def choose(
    experiment: Experiment,
    facts: Facts,
    provenance: Provenance,
    measured: tuple[Measurement, ...] | None = None,
) -> Chosen:
    """The same experiment with the automatic groups resolved. Raises Refusal if nothing fits.

    `measured` is what was measured for this run: without it, what this machine has measured before counts.
    """
    groups = automatic_groups(experiment)
    if not groups:
        return Chosen(experiment, facts, provenance)
    given = Given(provenance)
    refuse_if_any(effective(measuring_problems(experiment, facts), given))
    with_kernels = _with_fast_layers(experiment, facts, given)
    if with_kernels is not experiment:
        facts = with_settings(facts, with_kernels)
        groups = [*automatic_groups(with_kernels), "kernels"]
    before = as_before(experiment, facts, groups, given)
    if before is not None:
        return _chosen(experiment, before, facts, provenance, _told(groups, GOES_ON))
    recalled = recall(with_kernels, facts) if measured is None else Recalled(measured)
    count = wanted(experiment, facts) if measured is None else 0
    work = None
    if sizes_of(with_kernels, facts) is not None:
        work = workload_of(with_kernels, facts, on_cpu=bool(count or recalled.measurements))
    if work is None:
        why = UNKNOWN if facts.device == "cuda" else ON_A_CPU
        told = _told(automatic_groups(experiment), why)
        return _chosen(experiment, experiment, facts, provenance, told)
    judge, search, found = _found(with_kernels, facts, given, work)
    results = recalled.of(search)
    if too_large := results.too_large():
        found = _fitting(with_kernels, judge, search, too_large)
    unknown = [each for each in candidates(search, found, count) if results.get(each) is None]
    if results:
        found = with_measured(groups[0], found, search, results)
    best = found.best[0]
    new = best.shape.experiment
    if experiment.auto.batch:
        new = with_micro_batch(new, best.setup.micro_batch)
    account = account_of(groups, found, judge, work, results)
    notes = [*account.notes, *filter(None, [recalled.notice])]
    told = account.model_copy(update={"to_measure": len(unknown), "notes": notes})
    chosen = _chosen(experiment, new, facts, provenance, told)
    trials = trials_of(unknown, with_kernels, facts)
    return replace(chosen, trials=trials, known=recalled.measurements)


def _with_fast_layers(experiment: Experiment, facts: Facts, given: Given) -> Experiment:
    """With Liger's kernels where nothing is said about them and they can be used: they are always faster.

    Where nothing is said about compilation either, it is searched, because compiled layers were measured with
    Liger's loss.
    """
    if given.settles("kernels", "train.use_liger_kernel"):
        return experiment
    asking = experiment.model_copy(
        update={"kernels": experiment.kernels.model_copy(update={"liger": "auto"})}
    )
    liger = with_settings(facts, asking).liger
    if not liger.is_used:
        return experiment
    using = experiment.kernels.model_copy(update={"liger": "loss" if liger.leaves_layers else True})
    compiles = experiment.auto.compile or not given.settles("compile", *_COMPILING)
    auto = experiment.auto.model_copy(update={"compile": compiles})
    return experiment.model_copy(update={"kernels": using, "auto": auto})


def _found(experiment: Experiment, facts: Facts, given: Given, work: Workload) -> tuple[Judge, Search, Found]:
    """Raises Refusal if nothing fits."""
    shapes, micros = shapes_of(experiment, given), micro_batches(experiment, facts, given)
    judge = Judge(facts, micros[0])
    search = Search(work, judge, shapes, micros)
    found = _fitting(experiment, judge, search)
    if not found.best:
        others = [] if found.smallest else _fewest_problems(shapes, facts)
        listed = others or [_nothing(experiment, found, judge, _wider(experiment, facts, given, work))]
        raise Refusal(effective(listed, given))
    return judge, search, found


def _fewest_problems(shapes: list[Shape], facts: Facts) -> list[Problem]:
    """Those of the shape that is nearest to being accepted: what is wrong with all, and little else."""
    every = (problems_of_rules(each.experiment, with_settings(facts, each.experiment)) for each in shapes)
    return min(filter(None, every), key=len, default=[])


def _fitting(
    experiment: Experiment, judge: Judge, search: Search, too_large: Mapping[Shape, int] = NOTHING
) -> Found:
    """What surely fits, else what may, else the smallest where only a warning is wanted.

    `too_large` has the micro-batches that ran out of memory.
    """
    judge.allowed = "fits"
    found = search.again(too_large)
    if not found.best:
        judge.allowed = "tight"
        found = search.again()
    if not found.best and found.smallest is not None and experiment.memory.check == "warn":
        found = replace(found, best=[found.smallest])
    return found


def _wider(experiment: Experiment, facts: Facts, given: Given, work: Workload) -> list[str]:
    """The groups that would have to be automatic too; none if nothing fits then either."""
    everything = experiment.model_copy(update={"auto": Automatic(**dict.fromkeys(_WIDENING, True))})
    shapes, micros = shapes_of(everything, given), micro_batches(everything, facts, given)
    if not Search(work, Judge(facts, micros[0]), shapes, micros).run().best:
        return []
    return [f"{name}=auto" for name in _WIDENING if name not in automatic_groups(experiment)]


def _nothing(experiment: Experiment, found: Found, judge: Judge, wider: list[str]) -> Problem:
    """What the smallest combination needs, or that the disk has no room for swap files."""
    groups = automatic_groups(experiment)
    fix = either(*([" ".join(wider)] if wider else []), "memory.check=warn")
    if found.smallest is None:
        needs, fix = "the disk has no known room for the swap files of NVMe offload", either("offload=nvme")
    else:
        shape, micro = found.smallest.shape, found.smallest.setup.micro_batch
        lacking = [fit for fit in judge.fits_of(shape, micro) if fit.verdict == "does not fit"]
        parts = (
            f"{in_words(fit.used)} of the {fit.resource}, which has {in_words(fit.limit)}" for fit in lacking
        )
        needs = f"the smallest, {headline(found.smallest)}, needs {' and '.join(parts)}"
    reason = f"none of {found.compared} combinations fits: {needs}"
    allowed = "a machine that holds the model: more GPUs, nodes or host memory; or a smaller data.max_length"
    return Problem(groups[0], "auto", reason, allowed, fix)


def _told(groups: list[str], why: str) -> AutoChoice:
    return AutoChoice(groups=groups, settings=[], chosen=None, why=f"{CHOSEN}{why}")


def _chosen(
    before: Experiment, after: Experiment, facts: Facts, provenance: Provenance, choice: AutoChoice
) -> Chosen:
    """The experiment no longer asks for a choice, so that it can be compiled again on another host."""
    settings = settings_of(before, after, choice)
    experiment = after.model_copy(update={"auto": Automatic()})
    sources: dict[str, list[Origin]] = dict(provenance.experiment)
    for setting in settings:
        origin = Origin(source=setting.reason, value=setting.value)
        sources[setting.key] = [*sources.get(setting.key, []), origin]
    return Chosen(
        experiment,
        with_settings(facts, experiment),
        provenance.model_copy(update={"experiment": sources}),
        choice.model_copy(update={"settings": settings}),
    )
