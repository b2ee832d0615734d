"""lr_scheduler_kwargs: what transformers' schedulers would raise for once the model was loaded.

Upstream: transformers/optimization.py.
"""

import math
from collections.abc import Iterator
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment
from zpipe.schema.scheduler import KWARGS_OF, KWARGS_OF_SHAPE, KWARGS_THAT_MAY_BE_NULL, SHAPES

PREFIX = "scheduler.lr_scheduler_kwargs"
LAST_RATE = 1e-7
"""transformers' lr_end."""


def kwargs_have_their_kind(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Two are names of shapes, all others are numbers."""
    scheduler = experiment.scheduler
    kind = scheduler.lr_scheduler_type
    for name, value in scheduler.lr_scheduler_kwargs.items():
        if kind is None or name not in KWARGS_OF[kind] or (value is None and name in KWARGS_THAT_MAY_BE_NULL):
            continue
        key = f"{PREFIX}.{name}"
        if name in KWARGS_OF_SHAPE and value not in SHAPES:
            yield Problem(key, value, f"{kind} knows no such shape", ", ".join(SHAPES), f"{key}=linear")
        if name not in KWARGS_OF_SHAPE and not _is_number(value):
            yield Problem(key, value, f"{kind} reckons with it", "a number", f"~{key}, or {key}=1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_lowest_rate(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Only one of min_lr or min_lr_rate should be set, and one of them must be."""
    scheduler = experiment.scheduler
    if scheduler.lr_scheduler_type not in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        return
    rate, share = f"{PREFIX}.min_lr", f"{PREFIX}.min_lr_rate"
    given = [scheduler.lr_scheduler_kwargs.get(name) for name in ("min_lr", "min_lr_rate")]
    if None not in given:
        reason = f"{share}={given[1]} says the lowest rate too"
        yield Problem(rate, given[0], reason, "one of the two", f"{share}=null, or {rate}=null")
    if given == [None, None]:
        reason = "the lowest rate is needed, as a share of train.learning_rate, or itself as min_lr"
        yield Problem(share, None, reason, "0 to 1", f"{share}=0.1")


def polynomial_falls(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """lr_end must be smaller than initial lr."""
    scheduler, first = experiment.scheduler, experiment.train.learning_rate
    last = scheduler.lr_scheduler_kwargs.get("lr_end", LAST_RATE)
    if scheduler.lr_scheduler_type == "polynomial" and _is_number(last) and not first > last:
        key = f"{PREFIX}.lr_end"
        fix = f"{key}={first / 10:g}" if first else f"train.learning_rate={max(5e-5, 10 * last):g}"
        reason = "the rate must fall from train.learning_rate to it"
        yield Problem(key, last, reason, f"less than {first:g}", fix)


def decay_has_its_length(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Longer than what the warmup leaves, the decay would begin in its middle, with a leap of the rate."""
    scheduler, total = experiment.scheduler, facts.total_steps
    if scheduler.lr_scheduler_type != "warmup_stable_decay":
        return
    key, decay = f"{PREFIX}.num_decay_steps", scheduler.lr_scheduler_kwargs.get("num_decay_steps")
    if decay is None:
        yield Problem(key, None, "warmup_stable_decay needs it", "a number of steps", f"{key}=20")
        return
    if total is None or scheduler.lr_scheduler_kwargs.get("num_stable_steps") is not None:
        return
    warmup = _warmup_steps(experiment.train.warmup_steps, total)
    if _is_number(decay) and warmup < total < warmup + decay:
        reason = f"{total} steps with {warmup} of warmup leave {total - warmup}: the rate would leap"
        yield Problem(key, decay, reason, f"at most {total - warmup}", f"{key}={total - warmup}")


def _warmup_steps(given: float, total: int) -> int:
    """By TrainingArguments.get_warmup_steps."""
    return int(given) if given >= 1 else math.ceil(given * total)


ERRORS = (kwargs_have_their_kind, one_lowest_rate, polynomial_falls, decay_has_its_length)
