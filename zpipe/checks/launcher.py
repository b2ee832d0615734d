"""Environment variables of the launcher."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment


def visible_gpus_are_set_for_zpipe_itself(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The plan counts the GPUs that zpipe sees, and the workers must see the same."""
    name = "CUDA_VISIBLE_DEVICES"
    value, key = experiment.launcher.env.get(name), f"launcher.env.{name}"
    if value is not None:
        reason = f"the plan counts the GPUs visible to zpipe itself; start it as `{name}={value} zpipe …`"
        yield Problem(key, value, reason, "only in the environment of zpipe itself", either(f"~{key}"))


ERRORS = (visible_gpus_are_set_for_zpipe_itself,)
