"""The learning-rate scheduler: its parameters, the optimizer and the number of steps."""

from collections.abc import Iterator

from zpipe.checks import transformers_scheduler
from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either, nearest
from zpipe.schema.experiment import Experiment
from zpipe.schema.optimizer import shared_params_of
from zpipe.schema.scheduler import KWARGS_OF, PARAMS_OF
from zpipe.schema.train import Train


def exactly_one_scheduler(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Either DeepSpeed's or transformers' scheduler."""
    scheduler = experiment.scheduler
    if (scheduler.type is None) == (scheduler.lr_scheduler_type is None):
        yield Problem(
            "scheduler",
            f"type {scheduler.type or 'null'}, lr_scheduler_type {scheduler.lr_scheduler_type or 'null'}",
            "set exactly one of scheduler.type (DeepSpeed's) and scheduler.lr_scheduler_type (transformers')",
            fix=either("scheduler=warmup_decay", "scheduler=linear")
            if scheduler.type is None
            else either("scheduler.lr_scheduler_type=null", "scheduler.type=null"),
        )


def params_match_the_scheduler(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """An unknown parameter raises a TypeError when the engine starts."""
    scheduler = experiment.scheduler
    allowed = PARAMS_OF[scheduler.type] if scheduler.type is not None else frozenset()
    for name, value in scheduler.params.given().items():
        if name in allowed:
            continue
        key = f"scheduler.params.{name}"
        owners = [kind for kind, names in PARAMS_OF.items() if name in names]
        chosen = scheduler.type or f"transformers' {scheduler.lr_scheduler_type}"
        yield Problem(
            key,
            value,
            f"{chosen} has no such parameter",
            f"null; accepted by {', '.join(owners)}",
            either(f"{key}=null"),
        )


def kwargs_match_the_scheduler(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers passes the kwargs on: an unknown one raises a TypeError after the model is loaded."""
    scheduler = experiment.scheduler
    kind = scheduler.lr_scheduler_type
    allowed = KWARGS_OF[kind] if kind is not None else frozenset()
    for name, value in scheduler.lr_scheduler_kwargs.items():
        if name in allowed:
            continue
        prefix = "scheduler.lr_scheduler_kwargs"
        near = [f"{prefix}.{each}={value} ~{prefix}.{name}" for each in nearest(name, allowed)]
        reason = f"{kind or scheduler.type} has no such parameter"
        fix = either(*near, f"~{prefix}.{name}")
        yield Problem(f"{prefix}.{name}", value, reason, ", ".join(sorted(allowed)) or "none", fix)


def shared_params_match_train(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises for each that differs from TrainingArguments, after the model is loaded
    (transformers/integrations/deepspeed.py, fill_match)."""
    params, train = experiment.scheduler.params, experiment.train
    pairs: list[tuple[str, object, str, float | None]] = [
        ("warmup_max_lr", params.warmup_max_lr, "train.learning_rate", train.learning_rate),
        ("total_num_steps", params.total_num_steps, "train.max_steps", facts.total_steps),
    ]
    if train.warmup_steps >= 1 or train.warmup_steps == 0:
        warmup = max(1, int(train.warmup_steps))
        pairs.append(("warmup_num_steps", params.warmup_num_steps, "train.warmup_steps", warmup))
    for name, value, source, expected in pairs:
        if value not in (None, "auto", expected) and expected is not None:
            key = f"scheduler.params.{name}"
            reason = f"transformers derives it from {source} and refuses a different value in the JSON"
            yield Problem(
                key,
                value,
                reason,
                f"null or {expected}",
                either(f"{source}={value} {key}=null", f"{key}=null"),
            )


def decay_needs_a_step_size(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """With decay_step_size 0, DeepSpeed's default, OneCycle never decays."""
    params = experiment.scheduler.params
    for name in ("decay_lr_rate", "decay_mom_rate"):
        value = getattr(params, name)
        if value and not params.decay_step_size and experiment.scheduler.type == "OneCycle":
            key = f"scheduler.params.{name}"
            reason = "OneCycle never decays without scheduler.params.decay_step_size"
            yield Problem(
                key,
                value,
                reason,
                "null",
                either("scheduler.params.decay_step_size=100", f"{key}=null"),
                ignored=True,
            )


CYCLED = ("cycle_min_mom", "cycle_max_mom", "decay_mom_rate")
"""Parameters of OneCycle that are only used while the momentum is cycled."""

NO_CYCLING = " ".join(
    ["scheduler.params.cycle_momentum=false", *(f"scheduler.params.{name}=null" for name in CYCLED)]
)


def momentum_cycling_needs_betas(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without betas DeepSpeed turns cycle_momentum off and only logs it (lr_schedules.py)."""
    params, kind = experiment.scheduler.params, experiment.optimizer.type or experiment.optimizer.optim
    asked = params.cycle_momentum or params.cycle_min_mom is not None or params.cycle_max_mom is not None
    if experiment.scheduler.type == "OneCycle" and asked and not _has_betas(experiment):
        yield Problem(
            "scheduler.params.cycle_momentum",
            params.cycle_momentum,
            f"OneCycle cycles Adam's first beta, but {kind} has no betas",
            f"false with {kind}",
            either(NO_CYCLING, "optimizer=adamw"),
            ignored=True,
        )


def momentum_settings_need_cycling(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of the cycle are ignored while the momentum is not cycled."""
    params = experiment.scheduler.params
    for name in CYCLED:
        value = getattr(params, name)
        if value is not None and params.cycle_momentum is False:
            key = f"scheduler.params.{name}"
            reason = "only used with scheduler.params.cycle_momentum=true"
            yield Problem(
                key,
                value,
                reason,
                "null",
                either(f"{key}=null", "scheduler.params.cycle_momentum=true"),
                ignored=True,
            )


def _has_betas(experiment: Experiment) -> bool:
    """Muon has betas for its Adam part, but not where OneCycle reads them."""
    optimizer = experiment.optimizer
    return optimizer.type != "Muon" and "betas" in shared_params_of(optimizer)


def _cycles_momentum(experiment: Experiment) -> bool:
    """DeepSpeed's default is true."""
    scheduler = experiment.scheduler
    cycles = scheduler.type == "OneCycle" and scheduler.params.cycle_momentum is not False
    return cycles and _has_betas(experiment)


def cycled_betas_are_not_set(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """OneCycle overwrites both betas at each step (lr_schedules.py, _initialize_momentum)."""
    if not _cycles_momentum(experiment):
        return
    for name in ("adam_beta1", "adam_beta2"):
        value, default = getattr(experiment.train, name), Train.model_fields[name].default
        if value != default:
            key = f"train.{name}"
            reason = "OneCycle overwrites Adam's betas unless scheduler.params.cycle_momentum=false"
            yield Problem(
                key, value, reason, f"{default}", either(NO_CYCLING, f"{key}={default}"), ignored=True
            )


def warn_about_cycled_betas(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """DeepSpeed cycles the betas by default."""
    params = experiment.scheduler.params
    if _cycles_momentum(experiment):
        low = 0.8 if params.cycle_min_mom is None else params.cycle_min_mom
        high = 0.9 if params.cycle_max_mom is None else params.cycle_max_mom
        text = (
            f"OneCycle cycles Adam's first beta between {low:g} and {high:g} and fixes the second at 0.99; "
            "with scheduler.params.cycle_momentum=false, train.adam_beta1 and train.adam_beta2 apply"
        )
        yield Notice(level="warning", key="scheduler.params.cycle_momentum", text=text)


def note_minimum_warmup(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """DeepSpeed uses max(2, warmup_num_steps) (lr_schedules.py)."""
    kind, given = experiment.scheduler.type or "", experiment.train.warmup_steps
    of_share = facts.total_steps is not None and given * facts.total_steps <= 1
    if kind.startswith("Warmup") and (given in (0, 1) or (given < 1 and of_share)):
        text = f"DeepSpeed's {kind} warms up over at least 2 steps"
        yield Notice(level="info", key="train.warmup_steps", text=text)


NO_WARMUP = ("OneCycle", "LRRangeTest", "constant")


def warn_about_unused_warmup(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Not refused, because the model's option may have set train.warmup_steps."""
    kind = experiment.scheduler.type or experiment.scheduler.lr_scheduler_type
    if kind in NO_WARMUP and experiment.train.warmup_steps > 0:
        yield Notice(
            level="warning",
            key="train.warmup_steps",
            text=f"ignored, because {kind} has no warmup",
        )


def warn_about_unfinished_warmup(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Not refused, because it is common in a short trial run."""
    steps, warmup = facts.total_steps, experiment.train.warmup_steps
    kind = experiment.scheduler.type or experiment.scheduler.lr_scheduler_type
    if steps is not None and warmup >= steps and kind not in NO_WARMUP:
        text = f"warmup takes {warmup:g} steps but training only {steps}: the learning rate never peaks"
        yield Notice(level="warning", key="train.warmup_steps", text=text)


ERRORS = (
    exactly_one_scheduler,
    params_match_the_scheduler,
    kwargs_match_the_scheduler,
    shared_params_match_train,
    decay_needs_a_step_size,
    momentum_cycling_needs_betas,
    momentum_settings_need_cycling,
    cycled_betas_are_not_set,
    *transformers_scheduler.ERRORS,
)
NOTICES = (
    warn_about_unused_warmup,
    warn_about_unfinished_warmup,
    warn_about_cycled_betas,
    note_minimum_warmup,
)
