"""Steps: whether training takes one, and whether what is meant to happen at a step comes to happen."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.train.steps import best_model_problems, counted_steps


def max_steps_is_positive_or_unset(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers silently accepts 0 and any negative number."""
    steps = experiment.train.max_steps
    if steps == 0 or steps < -1:
        reason = "must be a positive number of steps, or -1 to use train.num_train_epochs"
        yield Problem(
            "train.max_steps",
            steps,
            reason,
            "-1, or 1 or more",
            either("train.max_steps=-1", "train.max_steps=1"),
        )


def training_takes_a_step(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without a step transformers ends at once, and its loss is 0."""
    train = experiment.train
    if train.num_train_epochs == 0 and train.max_steps == -1:
        yield Problem(
            "train.num_train_epochs",
            train.num_train_epochs,
            "no step would be trained",
            "above 0",
            either("train.num_train_epochs=1", "train.max_steps=100"),
        )


def best_model_is_evaluated(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """If no evaluation takes place, no model is the best, and the last one is kept."""
    if experiment.train.load_best_model_at_end and facts.total_steps is not None:
        yield from best_model_problems(experiment, facts.total_steps)


def warn_about_evaluation_that_never_comes(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """eval_steps beyond the last step."""
    train, total = experiment.train, facts.total_steps
    if train.eval_strategy != "steps" or total is None:
        return
    every = train.eval_steps or train.logging_steps
    if max(every, train.eval_delay) > total:
        name = "eval_steps" if every > total else "eval_delay"
        text = f"nothing is evaluated before the end of the {counted_steps(total)}"
        yield Notice(level="warning", key=f"train.{name}", text=text)


def warn_about_a_learning_rate_of_zero(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """It is accepted, for measurements."""
    if experiment.train.learning_rate == 0:
        yield Notice(level="warning", key="train.learning_rate", text="0 changes no parameter")


def warn_about_the_worst_model(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """The only metric is a loss, for which lower is better."""
    train = experiment.train
    if train.greater_is_better and train.load_best_model_at_end:
        text = "the metric is a loss, so that the model with the highest loss is kept"
        yield Notice(level="warning", key="train.greater_is_better", text=text)


def warn_about_unused_metric(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Only the search for the best model reads the metric."""
    train = experiment.train
    if train.load_best_model_at_end:
        return
    for name in ("metric_for_best_model", "greater_is_better"):
        if getattr(train, name) is not None:
            text = "without effect: train.load_best_model_at_end is false"
            yield Notice(level="warning", key=f"train.{name}", text=text)


def warn_about_unused_epochs(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """max_steps overrides the number of epochs."""
    train, name = experiment.train, "num_train_epochs"
    if train.max_steps > 0 and train.num_train_epochs != type(train).model_fields[name].default:
        text = f"overridden by train.max_steps={train.max_steps}; with train.max_steps=-1 the epochs decide"
        yield Notice(level="warning", key=f"train.{name}", text=text)


ERRORS = (max_steps_is_positive_or_unset, training_takes_a_step, best_model_is_evaluated)
NOTICES = (
    warn_about_unused_epochs,
    warn_about_evaluation_that_never_comes,
    warn_about_a_learning_rate_of_zero,
    warn_about_the_worst_model,
    warn_about_unused_metric,
)
