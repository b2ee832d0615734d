"""The source of each value: what set a key of the Experiment, and what a key of the JSON is derived from."""

from collections.abc import Mapping
from typing import Any

from zpipe.redact import redact_override, redact_tree
from zpipe.schema.base import Group
from zpipe.trees import ancestors

DEFAULT = "default"
"""The source of schema defaults."""
CHOSEN = "auto: "
"""The beginning of the source of a value that the plan chose. The reason follows."""
INDEX = "conf/config.yaml"
"""The file whose defaults list names an option for every group."""


class Origin(Group):
    """One value that a key was given."""

    source: str
    """`default` for the schema, a YAML file such as conf/stage/3.yaml, or an override as typed."""
    value: Any
    """As written in the source: `5e7` is text in YAML and a number in the Experiment."""


class Choice(Group):
    """The chosen option of a config group."""

    option: str
    file: str
    """The YAML file of the option."""
    chosen_by: str
    """The override as typed, or the YAML file whose defaults list names the option."""


class Derivation(Group):
    """What a key of the DeepSpeed JSON is derived from."""

    keys: list[str]
    """Keys of the Experiment."""
    rule: str | None = None
    """How the value is derived; None if it is the value of the single key."""


class Provenance(Group):
    """The sources of all values in a plan."""

    options: dict[str, Choice] = {}
    """By config group."""
    experiment: dict[str, list[Origin]] = {}
    """By dotted key, oldest first; the last one is in effect. A missing key has the schema's default."""
    ds_config: dict[str, Derivation] = {}
    """By dotted JSON key."""

    def chain(self, key: str) -> list[Origin]:
        """The values of the key, or of the mapping around it, oldest first; empty for a schema default."""
        given = (each for each in (key, *ancestors(key)) if each in self.experiment)
        return self.experiment.get(next(given, key), [])

    def without_secrets(self) -> "Provenance":
        """A copy with passwords and tokens replaced."""
        options = {name: _shown_choice(choice) for name, choice in self.options.items()}
        experiment = {
            key: [_shown_origin(key, origin) for origin in chain] for key, chain in self.experiment.items()
        }
        return self.model_copy(update={"options": options, "experiment": experiment})


def _shown_choice(choice: Choice) -> Choice:
    return choice.model_copy(update={"chosen_by": redact_override(choice.chosen_by)})


def _shown_origin(key: str, origin: Origin) -> Origin:
    return Origin(source=redact_override(origin.source), value=redact_tree(origin.value, key))


def chosen_by(choices: Mapping[str, Choice], file: str) -> str:
    """The override or file that chose a YAML file; empty if it is a default of conf/config.yaml."""
    for group, choice in choices.items():
        if choice.file == file and group != "recipe" and choice.chosen_by != INDEX:
            return choice.chosen_by
    return ""
