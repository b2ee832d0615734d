"""Steps: how many are trained, and what comes to happen within them. Imports no torch, for the checks."""

import math
from collections.abc import Iterator

from zpipe.plans.plan import Plan
from zpipe.problems import Problem, either, refuse_if_any
from zpipe.schema.experiment import Experiment


def check_counts(plan: Plan, training: int, held_out: int) -> None:
    """Raises Refusal if no step would be trained, nothing evaluated, or no best model found."""
    refuse_if_any(_problems(plan, training, held_out))


def total_steps(plan: Plan, training: int) -> int:
    """Optimizer steps that transformers derives (trainer.py, set_initial_training_values)."""
    train = plan.experiment.train
    if train.max_steps > 0:
        return train.max_steps
    passes = training / plan.sequences_per_pass
    batches = math.floor(passes) if train.dataloader_drop_last else math.ceil(passes)
    return math.ceil(train.num_train_epochs * max(1, math.ceil(batches / plan.accumulation)))


def best_model_problems(experiment: Experiment, total: int) -> Iterator[Problem]:
    """If no evaluation takes place within this many steps, no model is the best, and the last one is kept."""
    train = experiment.train
    if train.eval_strategy != "steps":
        return
    every, off = train.eval_steps or train.logging_steps, "train.load_best_model_at_end=false"
    both = f"train.eval_steps={total} checkpoint.save_steps={total}"
    reason = f"no evaluation within {counted_steps(total)}: train.load_best_model_at_end finds no best model"
    if every > total:
        yield Problem("train.eval_steps", every, reason, f"1 to {total}", either(both, off))
    elif train.eval_delay > total:
        yield Problem(
            "train.eval_delay", train.eval_delay, reason, f"0 to {total}", either("train.eval_delay=0", off)
        )


def counted_steps(count: int) -> str:
    """In words."""
    return "1 step" if count == 1 else f"{count} steps"


def _problems(plan: Plan, training: int, held_out: int) -> Iterator[Problem]:
    if plan.experiment.train.dataloader_drop_last:
        yield from _incomplete_batches(plan, training, held_out)
    if plan.experiment.train.load_best_model_at_end:
        yield from best_model_problems(plan.experiment, total_steps(plan, training))


def _incomplete_batches(plan: Plan, training: int, held_out: int) -> Iterator[Problem]:
    """transformers drops incomplete batches of both parts, and trains or evaluates on nothing."""
    processes = plan.sequences_per_pass // plan.micro_batch
    evaluated = (plan.experiment.batch.per_device_eval_batch_size or plan.micro_batch) * processes
    parts = [("train on", training, plan.sequences_per_pass)]
    if held_out:
        parts.append(("evaluate on", held_out, evaluated))
    for what, count, needed in parts:
        if count < needed:
            yield Problem(
                "train.dataloader_drop_last",
                True,
                f"leaves nothing to {what}: {count} sequences, and one batch of all devices takes {needed}",
                "false, or more data",
                "train.dataloader_drop_last=false",
            )
