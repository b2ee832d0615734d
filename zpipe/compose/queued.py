"""What the job of a queue composes the experiment from.

A job of Slurm repeats the command line, because its nodes share the files of the user. A pod has none of
them, and gets a recipe with the composed settings instead.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from zpipe.compose.compose import ComposedRun
from zpipe.compose.option_folders import repeatable, without_config_dir
from zpipe.compose.recipe_rules import recipe_problems
from zpipe.compose.repeat import Repetition
from zpipe.compose.settings import override, without_interpolation
from zpipe.launchers.base import NOTHING_SETTLED, Settled
from zpipe.plans.plan import settings_without_secrets
from zpipe.problems import Problem, refuse_if_any
from zpipe.schema.experiment import Experiment
from zpipe.trees import flatten, unflatten
from zpipe.variables import TRACKING_URI
from zpipe.yaml_text import yaml_text_in_quotes

_OF_THE_NODE = (
    *(f"launcher.{name}" for name in ("type", "wait", "nodes", "nproc_per_node", "node_rank")),
    *(f"launcher.{name}" for name in ("master_addr", "master_port", "slurm.", "kubeflow.")),
)
"""Beginnings of keys that the job sets itself."""


def repeated_command(composed: ComposedRun, typed: list[str], otherwise: list[str]) -> list[str]:
    """The command of the plan: the whole command line if a job repeats it."""
    return repeatable(typed) if composed.experiment.launcher.type == "slurm" else otherwise


def settled(composed: ComposedRun) -> Settled:
    """What the pods of launcher=kubeflow compose; nothing for other launchers. Raises Refusal for secrets."""
    experiment = composed.experiment
    if experiment.launcher.type != "kubeflow":
        return NOTHING_SETTLED
    if _is_read_from_a_secret(experiment):
        tracking = experiment.tracking.model_copy(update={"uri": None})
        experiment = experiment.model_copy(update={"tracking": tracking})
    refuse_if_any(_secrets(experiment))
    with without_config_dir():  # its options may have the names of zpipe's own
        repetition = Repetition.of(experiment, composed.provenance)
    changed = {**repetition.changed, **_of_this_process(experiment)}
    changed = {key: value for key, value in changed.items() if not key.startswith(_OF_THE_NODE)}
    if experiment.tracking.uri is None:
        changed.pop("tracking.uri")  # the pods use that of their environment
    typed = sorted({*_refused(changed), *({"tracking.uri"} & changed.keys())})
    given = {key: _as_it_is(value) for key, value in changed.items() if key not in typed}
    options = {group: option for group, option in repetition.options.items() if group != "launcher"}
    defaults = [{f"override /{group}": option} for group, option in options.items()]
    removed = (f"~{key}" for key in repetition.removed if not key.startswith(_OF_THE_NODE))
    overrides = (*removed, *(override(key, changed[key]) for key in typed))
    return Settled(yaml_text_in_quotes({"defaults": defaults, **unflatten(given)}), overrides)


def _is_read_from_a_secret(experiment: Experiment) -> bool:
    """Whether the pods get another store than the one in the environment of this process."""
    references = experiment.launcher.kubeflow.env_from
    is_own = experiment.tracking.uri == os.environ.get(TRACKING_URI)
    return is_own and any(each.endswith(f"/{TRACKING_URI}") for each in references)


def _of_this_process(experiment: Experiment) -> dict[str, Any]:
    """What a repetition would take from this process: variables (compose/sources.py), and no trust."""
    tracking = experiment.tracking
    return {
        "tracking.uri": tracking.uri,
        "tracking.experiment": tracking.experiment,
        "resume.trust": experiment.resume.trust,
    }


def _refused(changed: Mapping[str, Any]) -> Iterator[str]:
    """The keys that a recipe may not set: the user has set them, so the command of the pods does.

    Whether it may set a store depends on the variables of the pods.
    """
    escaped = unflatten({key: _as_it_is(value) for key, value in changed.items()})
    for problem in recipe_problems(escaped, "the recipe of the job"):
        yield problem.key


def _as_it_is(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_it_is(each) for each in value]
    return without_interpolation(value) if isinstance(value, str) else value


def _secrets(experiment: Experiment) -> Iterator[Problem]:
    """Everybody who can read ConfigMaps in the namespace could read them."""
    shown = flatten(settings_without_secrets(experiment))
    for key, value in flatten(experiment.model_dump(mode="json")).items():
        if value != shown.get(key):
            variable = "MLFLOW_TRACKING_URI" if key == "tracking.uri" else key.rpartition(".")[2]
            reason = "the ConfigMap of the job would contain this secret"
            allowed = "a key of a Secret, and this setting left out"
            fix = f"launcher.kubeflow.env_from=['SECRET/KEY/{variable}']"
            yield Problem(key, "***", reason, allowed, fix)
