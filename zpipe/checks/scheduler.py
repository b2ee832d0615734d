"""The learning-rate scheduler against its parameters, the optimizer and the length of the training."""

from collections.abc import Iterator

from zpipe.checks import transformers_scheduler
from zpipe.facts.facts import Facts
from zpipe.plan.plan import Notice
from zpipe.problems import Problem, nearest
from zpipe.schema.experiment import Experiment
from zpipe.schema.optimizer import shared_params_of
from zpipe.schema.scheduler import KWARGS_OF, PARAMS_OF
from zpipe.schema.train import Train


def exactly_one_scheduler(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Either DeepSpeed's or transformers'."""
    scheduler = experiment.scheduler
    if (scheduler.type is None) == (scheduler.lr_scheduler_type is None):
        yield Problem(
            "scheduler",
            f"type {scheduler.type}, lr_scheduler_type {scheduler.lr_scheduler_type}",
            "exactly one of scheduler.type (DeepSpeed's) and scheduler.lr_scheduler_type is needed",
            fix="scheduler=warmup_decay, or scheduler=linear"
            if scheduler.type is None
            else "scheduler.lr_scheduler_type=null, or scheduler.type=null",
        )


def params_belong_to_the_scheduler(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A foreign parameter is a TypeError at engine start."""
    scheduler = experiment.scheduler
    allowed = PARAMS_OF[scheduler.type] if scheduler.type is not None else frozenset()
    for name, value in scheduler.params.model_dump(exclude_none=True).items():
        if name in allowed:
            continue
        key = f"scheduler.params.{name}"
        takers = [kind for kind, names in PARAMS_OF.items() if name in names]
        chosen = scheduler.type or f"transformers' {scheduler.lr_scheduler_type}"
        yield Problem(
            key, value, f"{chosen} has no such parameter", f"null; {', '.join(takers)} has", f"{key}=null"
        )


def kwargs_belong_to_the_scheduler(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers hands lr_scheduler_kwargs on: a foreign one is a TypeError after the model was loaded."""
    scheduler = experiment.scheduler
    kind = scheduler.lr_scheduler_type
    allowed = KWARGS_OF[kind] if kind is not None else frozenset()
    for name, value in scheduler.lr_scheduler_kwargs.items():
        if name in allowed:
            continue
        prefix = "scheduler.lr_scheduler_kwargs"
        near = [f"{prefix}.{each}={value} ~{prefix}.{name}" for each in nearest(name, allowed)]
        reason = f"{kind or scheduler.type} takes no such parameter"
        fix = ", or ".join([*near, f"~{prefix}.{name}"])
        yield Problem(f"{prefix}.{name}", value, reason, ", ".join(sorted(allowed)) or "none", fix)


def shared_params_agree_with_train(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises for each that differs from TrainingArguments, after the model was loaded
    (transformers/integrations/deepspeed.py, fill_match)."""
    params, train = experiment.scheduler.params, experiment.train
    pairs: list[tuple[str, object, str, float | None]] = [
        ("warmup_max_lr", params.warmup_max_lr, "train.learning_rate", train.learning_rate),
        ("total_num_steps", params.total_num_steps, "train.max_steps", facts.total_steps),
    ]
    if train.warmup_steps >= 1 or train.warmup_steps == 0:
        warmup = max(1, int(train.warmup_steps))
        pairs.append(("warmup_num_steps", params.warmup_num_steps, "train.warmup_steps", warmup))
    for name, value, home, expected in pairs:
        if value not in (None, "auto", expected) and expected is not None:
            key = f"scheduler.params.{name}"
            reason = f"transformers takes it from {home}, and refuses another value in the JSON"
            yield Problem(
                key, value, reason, f"null or {expected}", f"{home}={value} {key}=null, or {key}=null"
            )


def decay_needs_steps(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """With decay_step_size 0, DeepSpeed's default, OneCycle never decays."""
    params = experiment.scheduler.params
    for name in ("decay_lr_rate", "decay_mom_rate"):
        value = getattr(params, name)
        if value and not params.decay_step_size and experiment.scheduler.type == "OneCycle":
            key = f"scheduler.params.{name}"
            reason = "without decay_step_size OneCycle never decays"
            yield Problem(key, value, reason, "null", f"scheduler.params.decay_step_size=100, or {key}=null")


def momentum_cycles_where_there_is_one(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without betas DeepSpeed turns cycle_momentum off with a log line (lr_schedules.py)."""
    params, kind = experiment.scheduler.params, experiment.optimizer.type or experiment.optimizer.optim
    asked = params.cycle_momentum or params.cycle_min_mom is not None or params.cycle_max_mom is not None
    if experiment.scheduler.type == "OneCycle" and asked and not _has_betas(experiment):
        yield Problem(
            "scheduler.params.cycle_momentum",
            params.cycle_momentum,
            f"OneCycle cycles the first of Adam's betas, and {kind} has none",
            "false with this optimizer",
            "scheduler.params.cycle_momentum=false scheduler.params.cycle_min_mom=null "
            "scheduler.params.cycle_max_mom=null, or optimizer=adamw",
        )


def cycled_momentum_is_cycled(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Bounds of a momentum that stays as it is."""
    params = experiment.scheduler.params
    for name in ("cycle_min_mom", "cycle_max_mom", "decay_mom_rate"):
        value = getattr(params, name)
        if value is not None and params.cycle_momentum is False:
            key = f"scheduler.params.{name}"
            reason = "acts with cycle_momentum=true only"
            yield Problem(key, value, reason, "null", f"{key}=null, or scheduler.params.cycle_momentum=true")


def _has_betas(experiment: Experiment) -> bool:
    """Muon has betas for its Adam half, but not where OneCycle looks for them."""
    optimizer = experiment.optimizer
    return optimizer.type != "Muon" and "betas" in shared_params_of(optimizer)


def _cycles_momentum(experiment: Experiment) -> bool:
    """DeepSpeed's default is true."""
    scheduler = experiment.scheduler
    cycles = scheduler.type == "OneCycle" and scheduler.params.cycle_momentum is not False
    return cycles and _has_betas(experiment)


def cycled_betas_are_onecycles(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """OneCycle overwrites both betas at each step (lr_schedules.py, _initialize_momentum)."""
    if not _cycles_momentum(experiment):
        return
    keep = "scheduler.params.cycle_momentum=false"
    for name in ("cycle_min_mom", "cycle_max_mom", "decay_mom_rate"):
        keep += f" scheduler.params.{name}=null"
    for name in ("adam_beta1", "adam_beta2"):
        value, default = getattr(experiment.train, name), Train.model_fields[name].default
        if value != default:
            key = f"train.{name}"
            reason = "OneCycle replaces Adam's betas while scheduler.params.cycle_momentum is not false"
            yield Problem(key, value, reason, f"{default}", f"{keep}, or {key}={default}")


def warn_of_cycled_betas(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """What DeepSpeed does by default."""
    params = experiment.scheduler.params
    if _cycles_momentum(experiment):
        low = 0.8 if params.cycle_min_mom is None else params.cycle_min_mom
        high = 0.9 if params.cycle_max_mom is None else params.cycle_max_mom
        text = (
            f"OneCycle moves Adam's first beta between {low:g} and {high:g} and holds the second at 0.99; "
            "scheduler.params.cycle_momentum=false leaves them as train.adam_beta1 and adam_beta2 say"
        )
        yield Notice(level="warning", key="scheduler.params.cycle_momentum", text=text)


def say_that_two_steps_are_the_least(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """max(2, warmup_num_steps) (lr_schedules.py)."""
    kind, given = experiment.scheduler.type or "", experiment.train.warmup_steps
    of_share = facts.total_steps is not None and given * facts.total_steps <= 1
    if kind.startswith("Warmup") and (given in (0, 1) or (given < 1 and of_share)):
        text = f"DeepSpeed's {kind} warms up over 2 steps at least"
        yield Notice(level="info", key="train.warmup_steps", text=text)


NO_WARMUP = ("OneCycle", "LRRangeTest", "constant")


def warn_of_unused_warmup(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Some schedulers have no warmup; train.warmup_steps may come from the model's own defaults."""
    kind = experiment.scheduler.type or experiment.scheduler.lr_scheduler_type
    if kind in NO_WARMUP and experiment.train.warmup_steps > 0:
        yield Notice(
            level="warning",
            key="train.warmup_steps",
            text=f"{kind} has no warmup: the {experiment.train.warmup_steps:g} steps of it are ignored",
        )


def warn_of_an_endless_warmup(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """A short trial of a long training; the number may come from the model's own defaults."""
    steps, warmup = facts.total_steps, experiment.train.warmup_steps
    kind = experiment.scheduler.type or experiment.scheduler.lr_scheduler_type
    if steps is not None and warmup > steps and kind not in NO_WARMUP:
        text = f"{warmup:g} steps, and the training has {steps}: the learning rate never reaches its peak"
        yield Notice(level="warning", key="train.warmup_steps", text=text)


ERRORS = (
    exactly_one_scheduler,
    params_belong_to_the_scheduler,
    kwargs_belong_to_the_scheduler,
    shared_params_agree_with_train,
    decay_needs_steps,
    momentum_cycles_where_there_is_one,
    cycled_momentum_is_cycled,
    cycled_betas_are_onecycles,
    *transformers_scheduler.ERRORS,
)
NOTICES = (
    warn_of_unused_warmup,
    warn_of_an_endless_warmup,
    warn_of_cycled_betas,
    say_that_two_steps_are_the_least,
)
