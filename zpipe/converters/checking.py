"""Checks an import against validation and the rules, and applies the fixes that they propose."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from zpipe import checks
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.compose.validation import validated
from zpipe.converters.resolve import reset_to_deepspeed_defaults
from zpipe.converters.result import Draft, same
from zpipe.converters.writing import overrides_of
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.problems import Fix, Problem, Refusal
from zpipe.schema.experiment import Experiment
from zpipe.trees import set_at, value_at

UNSEEN_MODEL = "org/not-here"
"""Stands for the model while rules are checked: an import must not depend on zpipe's default model."""

OF_THE_MODEL = frozenset({"offload.offload_param.buffer_count", "offload.offload_param.buffer_size"})
"""Keys that rules ask for if they cannot be derived from the model, which the user adds later."""

GPU = Gpu(name="a GPU", memory=80 * 1024**3, compute_capability=(9, 0))
MAX_ROUNDS = 20
USUAL_COUNTS, MOST_GPUS, MOST = (1, 2, 8), 4096, 2**20
TOTAL, MICRO = "train_batch_size", "per_device_train_batch_size"
ACCUMULATION = "gradient_accumulation_steps"


def check(draft: Draft, fix: bool) -> dict[str, Any]:
    """The values that the import needs. What the frameworks ignore is left out with a note; what else is
    refused becomes a finding of the draft, unless `fix` is set and the refused key has a proposed value.
    """
    try:
        base = _composed(draft)
    except Refusal as refusal:
        for problem in refusal.problems:
            draft.refuse(_with_source_key(problem, draft))
        return draft.values
    draft.values.update(reset_to_deepspeed_defaults(draft, base))
    for _ in range(MAX_ROUNDS):
        problems = _problems(draft, base, fix)
        changed = [_left_out(problem, draft) or (fix and _fixed(problem, draft)) for problem in problems]
        if not any(changed):
            break
    reported = {finding.problem.key for finding in draft.findings}
    for problem in (_with_source_key(problem, draft) for problem in problems):
        if problem.key not in reported:  # the readers know better what is wrong with a key
            draft.refuse(problem)
    if not draft.findings:
        _note_needed_gpus(draft, base)
    return _needed_values(draft, base)


def _note_needed_gpus(draft: Draft, base: dict[str, Any]) -> None:
    """A file that names no number of processes may still need several."""
    if "launcher.nproc_per_node" in draft.values:
        return
    experiment = validated(_tree(draft, base))
    accepted = [count for count in _gpu_counts(draft) if not list(_of_rules(experiment, count))]
    if accepted and 1 not in accepted:
        reason = f"not given: the settings are accepted on {min(accepted)} GPUs, for example, and not on one"
        draft.note("launcher.nproc_per_node", "", reason)


def _composed(draft: Draft) -> dict[str, Any]:
    """The experiment that the options alone compose."""
    has_model = "model" in draft.options or "recipe" in draft.options
    stand_in = [] if has_model else [f"model.name_or_path={UNSEEN_MODEL}"]
    return compose_once(rewrite([*overrides_of(draft.options, {}), *stand_in])).experiment.model_dump()


def _problems(draft: Draft, base: dict[str, Any], fix: bool) -> list[Problem]:
    """What validation refuses; if nothing, what the rules refuse on as many GPUs as suit the files."""
    try:
        experiment = validated(_tree(draft, base))
    except Refusal as refusal:
        return [problem._replace(fix=_without(problem)) for problem in refusal.problems]
    found = [list(_of_rules(experiment, count)) for count in _gpu_counts(draft)]
    return min(found, key=lambda problems: sum(_remains(problem, draft, fix) for problem in problems))


def _tree(draft: Draft, base: dict[str, Any]) -> dict[str, Any]:
    tree = copy.deepcopy(base)
    for key, value in draft.values.items():
        set_at(tree, key, value)
    return tree


def _remains(problem: Problem, draft: Draft, fix: bool) -> bool:
    return not ((problem.ignored or fix) and _own_change(problem, draft))


def _without(problem: Problem) -> Fix:
    """The fix for a message; `--fix` leaves an invalid value out, because a valid one would be a guess."""
    fix = Fix(problem.fix)
    fix.alternatives = (f"~{problem.key}",)
    return fix


def _of_rules(experiment: Experiment, gpus: int) -> Iterator[Problem]:
    machine = Hardware(gpus=(GPU,) * gpus, cores=8 * gpus, memory=gpus * 256 * 1024**3)
    try:
        problems = checks.problems(experiment, gather(experiment, machine))
    except Refusal as refusal:
        problems = list(refusal.problems)
    return (each for each in problems if not (each.key in OF_THE_MODEL and each.value is None))


def _gpu_counts(draft: Draft) -> list[int]:
    """The number of GPUs that the files name, or numbers that may suit them."""
    processes = _count(draft.values.get("launcher.nproc_per_node"))
    if 0 < processes <= MOST_GPUS:
        return [processes]
    groups = ("stage.zero_hpz_partition_size", "deepspeed.tensor_parallel.autotp_size")
    sizes = [_count(draft.values.get(key)) for key in groups]
    total, micro = (_count(draft.values.get(f"batch.{name}")) for name in (TOTAL, MICRO))
    if total and micro:
        sizes.append(total // (micro * (_count(draft.values.get(f"batch.{ACCUMULATION}")) or 1)))
    return [*dict.fromkeys(size for size in (*sizes, *USUAL_COUNTS) if 0 < size <= MOST_GPUS)]


def _count(value: Any) -> int:
    """A plausible number of processes or sequences; otherwise 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST else 0


def _left_out(problem: Problem, draft: Draft) -> bool:
    """Leaves out what the frameworks ignore. Overrides stay: a user who types them should know."""
    change = _own_change(problem, draft) if problem.ignored else ""
    if change:
        source = draft.sources.get(problem.key, problem.key)
        draft.note(source, problem.value, f"left out: {problem.reason}")
        _apply(change, draft)
    return bool(change)


def _fixed(problem: Problem, draft: Draft) -> bool:
    """Gives the refused key the proposed value."""
    change = _own_change(problem, draft)
    if change:
        removes = change.startswith("~") or change.endswith("=null")
        draft.refuse(_with_source_key(problem, draft), "left out" if removes else change)
        _apply(change, draft)
    return bool(change)


def _apply(change: str, draft: Draft) -> None:
    key, equals, value = change.partition("=")
    if equals:
        draft.values[key] = yaml.safe_load(value)
    else:
        del draft.values[key.removeprefix("~")]


def _own_change(problem: Problem, draft: Draft) -> str:
    """The first fix that changes nothing but the refused key, if a file sets this key; otherwise empty.

    Other keys that the fix only removes do not count: they are then refused, and removed, one by one.
    """
    if problem.key not in draft.values or problem.key in draft.overridden:
        return ""
    for alternative in problem.fix.alternatives if isinstance(problem.fix, Fix) else ():
        first, *others = alternative.split()
        only_removed = all(other.endswith(("=null", "=none")) for other in others)
        if only_removed and first.partition("=")[0].removeprefix("~") == problem.key:
            return first
    return ""


def _with_source_key(problem: Problem, draft: Draft) -> Problem:
    """The problem under the key that the user's file has."""
    source = draft.sources.get(problem.key, problem.key)
    return problem._replace(key=source)


def _needed_values(draft: Draft, base: Mapping[str, Any]) -> dict[str, Any]:
    """The values that differ from those of the options. `train` and `batch` are kept in any case, because the
    option of a model may set them."""
    return {
        key: value
        for key, value in draft.values.items()
        if key.startswith(("train.", "batch."))
        or key in draft.overridden
        or not same(value_at(base, key), value)
    }
