"""TrainingArguments: combinations that transformers refuses late or ignores."""

import math
from collections.abc import Iterator
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.schema.base import Group
from zpipe.schema.checkpoint import Checkpoint
from zpipe.schema.experiment import Experiment
from zpipe.schema.train import Train


def evaluation_needs_held_out_data(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Evaluation needs sequences that are held out from training."""
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
                f"{without}, unless data.eval_fraction is above 0",
                either("data.eval_fraction=0.02", f"{key}={without}"),
            )


def best_model_needs_matching_strategies(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises after the model is loaded."""
    train, checkpoint = experiment.train, experiment.checkpoint
    if not train.load_best_model_at_end:
        return
    if checkpoint.save_only_model:
        yield Problem(
            "checkpoint.save_only_model",
            True,
            "the best model cannot be loaded from a checkpoint without DeepSpeed's state",
            "false with train.load_best_model_at_end",
            either("checkpoint.save_only_model=false"),
        )
    strategies = {train.eval_strategy, checkpoint.save_strategy}
    if len(strategies) > 1 and "no" not in strategies:
        yield Problem(
            "train.load_best_model_at_end",
            True,
            f"train.eval_strategy={train.eval_strategy} differs from "
            f"checkpoint.save_strategy={checkpoint.save_strategy}",
            "true with the same strategy for both",
            either(f"train.eval_strategy={checkpoint.save_strategy}"),
        )


def best_model_is_evaluated_and_saved(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without evaluation no model is the best, and without checkpoints it is not saved."""
    train, saving = experiment.train, experiment.checkpoint.save_strategy
    if train.load_best_model_at_end and "no" in (train.eval_strategy, saving):
        both = next((each for each in (saving, train.eval_strategy) if each != "no"), "steps")
        held_out = "" if experiment.data.eval_fraction > 0 else " data.eval_fraction=0.02"
        yield Problem(
            "train.load_best_model_at_end",
            True,
            "needs evaluation and checkpoints, but "
            f"train.eval_strategy={train.eval_strategy} and checkpoint.save_strategy={saving}",
            "true with evaluation and checkpoints",
            either(
                f"checkpoint.save_strategy={both} train.eval_strategy={both}{held_out}",
                "train.load_best_model_at_end=false",
            ),
        )


def best_model_is_evaluated_when_saved(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """save_steps must be a multiple of the evaluation steps, which default to logging_steps."""
    train, checkpoint = experiment.train, experiment.checkpoint
    if not train.load_best_model_at_end or train.eval_strategy != "steps":
        return
    every = train.eval_steps or train.logging_steps
    if checkpoint.save_strategy == "steps" and checkpoint.save_steps % every:
        key, multiple = "checkpoint.save_steps", math.ceil(checkpoint.save_steps / every) * every
        reason = f"train.load_best_model_at_end needs a multiple of the {every} steps between evaluations"
        fixes = [f"{key}={multiple}"]
        if facts.total_steps is None or checkpoint.save_steps <= facts.total_steps:
            fixes.append(f"train.eval_steps={checkpoint.save_steps}")
        fix = either(*fixes)
        yield Problem(key, checkpoint.save_steps, reason, f"a multiple of {every}", fix)


def metric_is_measured(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises a KeyError at the first evaluation."""
    metric = experiment.train.metric_for_best_model
    if metric not in (None, "loss", "eval_loss"):
        key = "train.metric_for_best_model"
        reason = "evaluation only measures the loss"
        yield Problem(key, metric, reason, "loss, eval_loss", either(f"{key}=eval_loss", f"{key}=null"))


def data_loader_settings_need_workers(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Both raise without data loader workers."""
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
                "needs data loader workers, but train.dataloader_num_workers is 0",
                without,
                either("train.dataloader_num_workers=2", f"{key}={without}"),
            )


EVALUATION = "data.eval_fraction=0.02 train.eval_strategy=steps"


def settings_need_their_feature(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers silently ignores settings of a feature that is off."""
    train, checkpoint = experiment.train, experiment.checkpoint
    checkpointing = "train.gradient_checkpointing=true"
    if not train.gradient_checkpointing:
        yield from _only_used_with(checkpointing, checkpointing, train, "gradient_checkpointing_kwargs")
    if train.eval_strategy != "steps":
        yield from _only_used_with("train.eval_strategy=steps", EVALUATION, train, "eval_steps")
    if train.eval_strategy == "no":
        yield from _only_used_with("evaluation", EVALUATION, train, "eval_delay")
    if checkpoint.save_strategy != "steps":
        steps = "checkpoint.save_strategy=steps"
        yield from _only_used_with(steps, steps, checkpoint, "save_steps")


def _default(group: type[Group], name: str) -> Any:
    return group.model_fields[name].default


def _only_used_with(feature: str, turned_on: str, group: Train | Checkpoint, name: str) -> Iterator[Problem]:
    """A problem if the setting differs from its default; the overrides `turned_on` make it effective."""
    value, default = getattr(group, name), _default(type(group), name)
    if value != default:
        key = f"{type(group).__name__.lower()}.{name}"
        without = "null" if default is None else f"{default}"
        drop = f"~{key}" if default == {} else f"{key}={without}"
        yield Problem(key, value, f"only used with {feature}", without, either(turned_on, drop), ignored=True)


ERRORS = (
    evaluation_needs_held_out_data,
    best_model_needs_matching_strategies,
    best_model_is_evaluated_and_saved,
    best_model_is_evaluated_when_saved,
    metric_is_measured,
    data_loader_settings_need_workers,
    settings_need_their_feature,
)
