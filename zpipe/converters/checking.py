"""Checks an import against validation and the rules, and applies the fixes that they propose."""

import copy
from collections.abc import Mapping
from typing import Any

import yaml

from zpipe import checks
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.compose.validation import NOT_VALID, validated
from zpipe.converters.resolve import reset_to_deepspeed_defaults
from zpipe.converters.result import Draft, same
from zpipe.converters.writing import overrides_of
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.problems import Problem, Refusal
from zpipe.trees import set_at, value_at

UNSEEN_MODEL = "org/not-here"
"""Stands for the model while rules are checked: an import must not depend on zpipe's default model."""

GPU = Gpu(name="a GPU", memory=80 * 1024**3, compute_capability=(9, 0))
MAX_FIX_ROUNDS = 20


def check(draft: Draft, fix: bool) -> dict[str, Any]:
    """The values that the import needs. Adds what is refused to the draft's findings.

    With `fix`, applies proposed fixes until no rule proposes another.
    """
    try:
        base = _composed(draft)
    except Refusal as refusal:
        for problem in refusal.problems:
            draft.refuse(_with_source_key(problem, draft))
        return draft.values
    draft.values.update(reset_to_deepspeed_defaults(draft, base))
    for _ in range(MAX_FIX_ROUNDS):
        problems = _problems(draft, base)
        fixes = [(problem, fixed) for problem in problems if (fixed := _proposal(problem, draft)) is not None]
        if not fix or not fixes:
            break
        for problem, fixed in fixes:
            _apply(problem, fixed[0], draft)
    for problem in problems:
        draft.refuse(_with_source_key(problem, draft))
    return _needed_values(draft, base)


def _composed(draft: Draft) -> dict[str, Any]:
    """The experiment that the options alone compose."""
    has_model = "model" in draft.options or "recipe" in draft.options
    stand_in = [] if has_model else [f"model.name_or_path={UNSEEN_MODEL}"]
    return compose_once(rewrite([*overrides_of(draft.options, {}), *stand_in])).experiment.model_dump()


def _problems(draft: Draft, base: dict[str, Any]) -> list[Problem]:
    """What validation and the rules refuse on as many GPUs as the files mention."""
    tree = copy.deepcopy(base)
    for key, value in draft.values.items():
        set_at(tree, key, value)
    try:
        experiment = validated(tree)
        return checks.problems(experiment, gather(experiment, _machine(draft)))
    except Refusal as refusal:
        return list(refusal.problems)


def _machine(draft: Draft) -> Hardware:
    value = draft.values.get
    processes = value("launcher.nproc_per_node") or value("stage.zero_hpz_partition_size")
    total, micro = value("batch.train_batch_size"), value("batch.per_device_train_batch_size")
    accumulation = value("batch.gradient_accumulation_steps")
    if processes is None and all(isinstance(each, int) and each > 0 for each in (total, micro, accumulation)):
        processes = max(1, total // (micro * accumulation))  # type: ignore[operator]
    count = processes if isinstance(processes, int) and 0 < processes <= 4096 else 1
    return Hardware(gpus=(GPU,) * count, cores=8 * count, memory=count * 256 * 1024**3)


def _proposal(problem: Problem, draft: Draft) -> tuple[Any] | None:
    """The value that a rule proposes for the refused key itself, if a file sets this key."""
    if problem.key not in draft.values or problem.key in draft.overridden:
        return None
    if problem.reason == NOT_VALID:
        return (None,)
    for alternative in problem.fix.split(", or "):
        key, equals, value = alternative.partition("=")
        if equals and key == problem.key and " " not in alternative:
            return (yaml.safe_load(value),)
        if alternative.startswith(f"{problem.key}=null ") and _only_removes(alternative):
            return (None,)  # the other keys are then refused, and removed, one by one
    return None


def _only_removes(fix: str) -> bool:
    return all(override.endswith("=null") for override in fix.split())


def _apply(problem: Problem, value: Any, draft: Draft) -> None:
    if problem.reason == NOT_VALID:
        del draft.values[problem.key]
        draft.refuse(_with_source_key(problem, draft), "left out")
    else:
        draft.values[problem.key] = value
        applied = f"{problem.key}={'null' if value is None else value}"
        draft.refuse(_with_source_key(problem, draft), applied)


def _with_source_key(problem: Problem, draft: Draft) -> Problem:
    """The problem under the key that the user's file has."""
    source = draft.sources.get(problem.key, problem.key)
    return Problem(source, problem.value, problem.reason, problem.allowed, problem.fix)


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
