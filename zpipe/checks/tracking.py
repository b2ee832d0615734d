"""Tracking: names that MLflow refuses, and variables of MLflow that zpipe does not use."""

import os
from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.variables import UNUSED_MLFLOW

MAX_EXPERIMENT_NAME = 500
"""Characters (mlflow/utils/validation.py, MAX_EXPERIMENT_NAME_LENGTH)."""


def experiment_name_is_one_that_mlflow_accepts(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """MLflow would refuse it after the training (mlflow/utils/validation.py, _validate_experiment_name)."""
    name, key = experiment.tracking.experiment, "tracking.experiment"
    if not experiment.tracking.enabled:
        return
    allowed, fix = f"1 to {MAX_EXPERIMENT_NAME} characters", either(f"{key}=zpipe", "tracking=none")
    if not name.strip():
        yield Problem(key, name, "MLflow refuses an empty experiment name", allowed, fix)
    elif len(name) > MAX_EXPERIMENT_NAME:
        shown = f"{name[:40]}… ({len(name)} characters)"
        yield Problem(key, shown, "MLflow refuses a name of this length", allowed, fix)


def warn_about_unused_variables(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Each zpipe run is a new MLflow run; what chooses another one acts in MLflow's own client only."""
    for variable in UNUSED_MLFLOW:
        if experiment.tracking.enabled and os.environ.get(variable):
            text = f"the environment variable {variable} is not used: a run is recorded as a new MLflow run"
            yield Notice(level="warning", key="tracking", text=text)


ERRORS = (experiment_name_is_one_that_mlflow_accepts,)
NOTICES = (warn_about_unused_variables,)
