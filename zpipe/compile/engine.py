"""What must be running once DeepSpeed's engine has started."""

from zpipe.facts.facts import Facts
from zpipe.facts.implementation import optimizer_class
from zpipe.plans.plan import Engine
from zpipe.schema.experiment import Experiment

TRANSFORMERS_CLASSES = {
    "adamw_torch": "AdamW",
    "adamw_torch_fused": "AdamW",
    "adafactor": "Adafactor",
    "sgd": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "adamw_bnb_8bit": "AdamW",
    "lion_32bit": "Lion",
    "lion_8bit": "Lion",
    "paged_adamw_32bit": "AdamW",
    "paged_adamw_8bit": "AdamW",
    "schedule_free_adamw": "AdamWScheduleFree",
    "stable_adamw": "StableAdamW",
}
"""Optimizer classes by TrainingArguments.optim (transformers/trainer_optimizer.py)."""


def expected_engine(experiment: Experiment, facts: Facts) -> Engine:
    """Class names of optimizer and scheduler, and the dtype of the parameters."""
    optim = experiment.optimizer.optim
    chosen = TRANSFORMERS_CLASSES[optim] if optim is not None else optimizer_class(experiment, facts)
    assert chosen is not None
    return Engine(
        optimizer=chosen,
        scheduler=experiment.scheduler.type or "LambdaLR",
        dtype=facts.parameter_dtype,
    )
