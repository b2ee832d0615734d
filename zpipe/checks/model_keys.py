"""Problems of keys of the model's configuration, wherever it is from."""

import json

from zpipe.facts.architecture import Architecture, architecture
from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment

OTHER_MODEL = "model=tiny model.name_or_path=null"


def architecture_of(facts: Facts) -> Architecture | None:
    """None if transformers does not have it, or is not installed."""
    kind = facts.model.config.get("model_type")
    return architecture(kind) if isinstance(kind, str) else None


def key_problem(
    experiment: Experiment, name: str, value: object, reason: str, allowed: str, best: str, fix: str = ""
) -> Problem:
    """About a key of the configuration: of model.config, or of the config.json of a model."""
    folder, key = experiment.model.name_or_path, f"model.config.{name}"
    if folder is None:
        return Problem(key, value, reason, allowed, either(fix or (f"{key}={best}" if best else f"~{key}")))
    text = f"in its config.json, {name} is {json.dumps(value)}: {reason}"
    own = fix if fix and ".config." not in fix else OTHER_MODEL
    return Problem("model.name_or_path", folder, text, allowed, either(own))
