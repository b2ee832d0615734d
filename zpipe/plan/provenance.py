"""Where values came from: what set each key of the Experiment, and what each key of the JSON follows from."""

from collections.abc import Mapping
from typing import Any

from zpipe.redact import redact_override, redact_tree
from zpipe.schema.base import Group
from zpipe.trees import ancestors

DEFAULT = "default"
"""The source of a value that only the schema sets."""
INDEX = "conf/config.yaml"
"""The file whose defaults list names an option for every group."""


class Origin(Group):
    """One value that a key was given."""

    source: str
    """`default` for the schema's; a YAML file, as conf/stage/3.yaml; or an override as it was typed."""
    value: Any
    """As given there: `5e7` is text in YAML and a number in the Experiment."""


class Choice(Group):
    """The option that a config group stands at."""

    option: str
    file: str
    """The YAML file of the option."""
    chosen_by: str
    """The override as it was typed, or the YAML file with the defaults list that names it."""


class Derivation(Group):
    """What a key of the DeepSpeed JSON follows from."""

    keys: list[str]
    """Keys of the Experiment."""
    rule: str | None = None
    """How the value follows; null where it is that of the one key."""


class Provenance(Group):
    """The sources of everything in a plan."""

    options: dict[str, Choice] = {}
    """By config group."""
    experiment: dict[str, list[Origin]] = {}
    """By dotted key, oldest first: the last one counts. A key that is not here has the schema's default."""
    ds_config: dict[str, Derivation] = {}
    """By dotted JSON key."""

    def chain(self, key: str) -> list[Origin]:
        """What set the key or the mapping that it is in, oldest first; empty where only the schema did."""
        given = (each for each in (key, *ancestors(key)) if each in self.experiment)
        return self.experiment.get(next(given, key), [])

    def without_secrets(self) -> "Provenance":
        """The same with passwords and tokens replaced."""
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
    """What brought a YAML file in, where that is no default of conf/config.yaml; otherwise empty."""
    for group, choice in choices.items():
        if choice.file == file and group != "recipe" and choice.chosen_by != INDEX:
            return choice.chosen_by
    return ""
