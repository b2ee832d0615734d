"""TrainingArguments against each other."""

import math
from collections.abc import Iterator
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.plan.plan import Notice
from zpipe.problems import Problem
from zpipe.schema.checkpoint import Checkpoint
from zpipe.schema.experiment import Experiment
from zpipe.schema.train import Train


def steps_or_epochs(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers takes 0 and any negative number without a word."""
    steps = experiment.train.max_steps
    if steps == 0 or steps < -1:
        reason = "it is a number of steps, or -1, which leaves the length to train.num_train_epochs"
        yield Problem(
            "train.max_steps", steps, reason, "-1, or 1 and more", "train.max_steps=-1, or train.max_steps=1"
        )


def evaluation_needs_held_out_data(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """There is nothing to evaluate on unless a share is held out."""
    train = experiment.train
    if experiment.data.eval_fraction > 0:
        return
    for name, value, off in (
        ("eval_strategy", train.eval_strategy, "no"),
        ("eval_on_start", train.eval_on_start, False),
    ):
        if value != off:
            key, without = f"train.{name}", str(off).lower()
            yield Problem(
                key,
                value,
                "no data is held out for evaluation",
                f"{without}, while data.eval_fraction is 0",
                f"data.eval_fraction=0.02, or {key}={without}",
            )


def best_model_needs_matching_strategies(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises after the model was loaded."""
    train, checkpoint = experiment.train, experiment.checkpoint
    if not train.load_best_model_at_end:
        return
    if checkpoint.save_only_model:
        yield Problem(
            "checkpoint.save_only_model",
            True,
            "the best model cannot be loaded from checkpoints without DeepSpeed's state",
            "false with train.load_best_model_at_end",
            "checkpoint.save_only_model=false",
        )
    strategies = {train.eval_strategy, checkpoint.save_strategy}
    if len(strategies) > 1 and "no" not in strategies:
        yield Problem(
            "train.load_best_model_at_end",
            True,
            f"evaluation is by {train.eval_strategy}, saving by {checkpoint.save_strategy}",
            "the same strategy for both",
            f"train.eval_strategy={checkpoint.save_strategy}",
        )


def best_model_is_evaluated_and_saved(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without evaluation none is the best, and without checkpoints it is nowhere."""
    train, saving = experiment.train, experiment.checkpoint.save_strategy
    if train.load_best_model_at_end and "no" in (train.eval_strategy, saving):
        both = next((each for each in (saving, train.eval_strategy) if each != "no"), "steps")
        held_out = "" if experiment.data.eval_fraction > 0 else " data.eval_fraction=0.02"
        yield Problem(
            "train.load_best_model_at_end",
            True,
            f"evaluation is by {train.eval_strategy}, saving by {saving}: no model would be the best",
            "true with evaluation and checkpoints",
            f"checkpoint.save_strategy={both} train.eval_strategy={both}{held_out}, "
            "or train.load_best_model_at_end=false",
        )


def best_model_is_evaluated_when_saved(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The saving steps must be a round multiple of the evaluation steps, which are logging_steps if null."""
    train, checkpoint = experiment.train, experiment.checkpoint
    if not train.load_best_model_at_end or train.eval_strategy != "steps":
        return
    every = train.eval_steps or train.logging_steps
    if checkpoint.save_strategy == "steps" and checkpoint.save_steps % every:
        key, multiple = "checkpoint.save_steps", math.ceil(checkpoint.save_steps / every) * every
        reason = f"the best model is looked for every {every} steps, and this is no multiple of them"
        fix = f"{key}={multiple}, or train.eval_steps={checkpoint.save_steps}"
        yield Problem(key, checkpoint.save_steps, reason, f"a multiple of {every}", fix)


def metric_is_measured(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises a KeyError at the first evaluation."""
    metric = experiment.train.metric_for_best_model
    if metric not in (None, "loss", "eval_loss"):
        key = "train.metric_for_best_model"
        reason = "evaluation measures the loss only"
        yield Problem(key, metric, reason, "loss, eval_loss", f"{key}=eval_loss, or {key}=null")


def workers_load_ahead(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Both raise without worker processes of the data loader."""
    train = experiment.train
    if train.dataloader_num_workers > 0:
        return
    for name, off in (("dataloader_prefetch_factor", None), ("dataloader_persistent_workers", False)):
        value = getattr(train, name)
        if value != off:
            key, without = f"train.{name}", "null" if off is None else "false"
            yield Problem(
                key,
                value,
                "train.dataloader_num_workers is 0: there is no worker that could do it",
                without,
                f"train.dataloader_num_workers=2, or {key}={without}",
            )


def settings_have_their_switch_on(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of what is off, which transformers ignores without a word."""
    train, checkpoint = experiment.train, experiment.checkpoint
    evaluates = "data.eval_fraction=0.02 train.eval_strategy=steps"
    off = {
        "gradient_checkpointing_kwargs": (train.gradient_checkpointing, "train.gradient_checkpointing=true"),
        "liger_kernel_config": (train.use_liger_kernel, "train.use_liger_kernel=true"),
        "eval_steps": (train.eval_strategy == "steps", evaluates),
        "eval_delay": (train.eval_strategy != "no", evaluates),
    }
    for name, (is_on, switch) in off.items():
        if not is_on:
            yield from _ignored(f"train.{name}", getattr(train, name), _default(Train, name), switch)
    if checkpoint.save_strategy != "steps":
        switch, default = "checkpoint.save_strategy=steps", _default(Checkpoint, "save_steps")
        yield from _ignored("checkpoint.save_steps", checkpoint.save_steps, default, switch)


def _default(group: type[Train] | type[Checkpoint], name: str) -> Any:
    return group.model_fields[name].default


def _ignored(key: str, value: Any, default: Any, switch: str) -> Iterator[Problem]:
    if value != default:
        without = "null" if default is None else f"{default}"
        drop = f"~{key}" if default == {} else f"{key}={without}"
        name = switch.rpartition(" ")[2]
        yield Problem(key, value, f"acts with {name} only", without, f"{switch}, or {drop}")


def warn_of_epochs_without_effect(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """transformers lets max_steps decide."""
    train, name = experiment.train, "num_train_epochs"
    if train.max_steps > 0 and train.num_train_epochs != _default(Train, name):
        text = f"train.max_steps={train.max_steps} decides; train.max_steps=-1 lets the epochs decide"
        yield Notice(level="warning", key=f"train.{name}", text=text)


ERRORS = (
    steps_or_epochs,
    evaluation_needs_held_out_data,
    best_model_needs_matching_strategies,
    best_model_is_evaluated_and_saved,
    best_model_is_evaluated_when_saved,
    metric_is_measured,
    workers_load_ahead,
    settings_have_their_switch_on,
)
NOTICES = (warn_of_epochs_without_effect,)
