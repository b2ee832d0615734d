"""TrainingArguments against each other."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment


def evaluation_needs_held_out_data(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """There is nothing to evaluate on unless a share is held out."""
    strategy = experiment.train.eval_strategy
    if strategy != "no" and experiment.data.eval_fraction == 0:
        yield Problem(
            "train.eval_strategy",
            strategy,
            "no data is held out for evaluation",
            "no, while data.eval_fraction is 0",
            "data.eval_fraction=0.02, or train.eval_strategy=no",
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
    if train.eval_strategy != checkpoint.save_strategy:
        yield Problem(
            "train.load_best_model_at_end",
            True,
            f"evaluation is by {train.eval_strategy}, saving by {checkpoint.save_strategy}",
            "the same strategy for both",
            f"train.eval_strategy={checkpoint.save_strategy}",
        )


ERRORS = (evaluation_needs_held_out_data, best_model_needs_matching_strategies)
