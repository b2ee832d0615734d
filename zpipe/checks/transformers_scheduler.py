"""lr_scheduler_kwargs: values for which transformers' schedulers raise after the model is loaded.

Upstream: transformers/optimization.py.
"""

import math
from collections.abc import Iterator
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.schema.scheduler import KWARGS_OF, KWARGS_OF_SHAPE, KWARGS_THAT_MAY_BE_NULL, SHAPES

PREFIX = "scheduler.lr_scheduler_kwargs"
LAST_RATE = 1e-7
"""transformers' default of lr_end."""


REQUIRED = frozenset({"num_decay_steps", "min_lr", "min_lr_rate"})
"""Kwargs that cannot simply be left out where they are set."""

EXAMPLES = {"lr_end": "1e-07", "min_lr": "0", "min_lr_rate": "0.1"}
"""Values that are valid with any learning rate; 1 is valid for all other numbers."""


def kwargs_have_valid_values(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Two kwargs are names of shapes, all others are numbers."""
    scheduler = experiment.scheduler
    kind = scheduler.lr_scheduler_type
    for name, value in scheduler.lr_scheduler_kwargs.items():
        if kind is None or name not in KWARGS_OF[kind] or (value is None and name in KWARGS_THAT_MAY_BE_NULL):
            continue
        key = f"{PREFIX}.{name}"
        if name in KWARGS_OF_SHAPE and value not in SHAPES:
            yield Problem(
                key, value, f"{kind} does not support this shape", ", ".join(SHAPES), either(f"{key}=linear")
            )
        if name not in KWARGS_OF_SHAPE and not _is_number(value):
            example = f"{key}={EXAMPLES.get(name, 1)}"
            fix = either(example) if name in REQUIRED else either(f"~{key}", example)
            yield Problem(key, value, f"{kind} needs a number", "a number", fix)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def exactly_one_minimum_rate(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises unless exactly one of min_lr and min_lr_rate is set."""
    scheduler = experiment.scheduler
    if scheduler.lr_scheduler_type not in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        return
    rate, fraction = f"{PREFIX}.min_lr", f"{PREFIX}.min_lr_rate"
    given = [scheduler.lr_scheduler_kwargs.get(name) for name in ("min_lr", "min_lr_rate")]
    if None not in given:
        reason = f"the minimum learning rate is already set by {fraction}={given[1]}"
        yield Problem(rate, given[0], reason, "one of the two", either(f"{fraction}=null", f"{rate}=null"))
    if given == [None, None]:
        reason = f"no minimum learning rate: set this fraction of train.learning_rate, or {rate}"
        yield Problem(fraction, None, reason, "0 to 1", either(f"{fraction}=0.1"))


def polynomial_decay_ends_lower(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers requires lr_end to be below the initial learning rate."""
    scheduler, first = experiment.scheduler, experiment.train.learning_rate
    last = scheduler.lr_scheduler_kwargs.get("lr_end", LAST_RATE)
    if scheduler.lr_scheduler_type == "polynomial" and _is_number(last) and not first > last:
        key = f"{PREFIX}.lr_end"
        fix = (
            either(f"{key}={first / 10:g}")
            if first
            else either(f"train.learning_rate={max(5e-05, 10 * last):g}")
        )
        reason = "must be below train.learning_rate"
        yield Problem(key, last, reason, f"less than {first:g}", fix)


def decay_fits_after_the_warmup(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A decay longer than the steps after the warmup starts in its middle, so the learning rate jumps."""
    scheduler, total = experiment.scheduler, facts.total_steps
    if scheduler.lr_scheduler_type != "warmup_stable_decay":
        return
    key, decay = f"{PREFIX}.num_decay_steps", scheduler.lr_scheduler_kwargs.get("num_decay_steps")
    remaining = None if total is None else total - _warmup_steps(experiment.train.warmup_steps, total)
    if decay is None:
        steps = 20 if remaining is None or remaining < 1 else min(20, remaining)
        yield Problem(
            key, None, "required by warmup_stable_decay", "a number of steps", either(f"{key}={steps}")
        )
        return
    if remaining is None or scheduler.lr_scheduler_kwargs.get("num_stable_steps") is not None:
        return
    if _is_number(decay) and 0 < remaining < decay:
        reason = f"only {remaining} of {total} steps follow the warmup, so the learning rate would jump"
        yield Problem(key, decay, reason, f"at most {remaining}", either(f"{key}={remaining}"))


def _warmup_steps(given: float, total: int) -> int:
    """As computed by TrainingArguments.get_warmup_steps."""
    return int(given) if given >= 1 else math.ceil(given * total)


ERRORS = (
    kwargs_have_valid_values,
    exactly_one_minimum_rate,
    polynomial_decay_ends_lower,
    decay_fits_after_the_warmup,
)
