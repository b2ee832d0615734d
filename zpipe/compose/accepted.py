"""Whether an override would be accepted, so that only such overrides are proposed."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import HydraException
from pydantic import ValidationError

from zpipe.compose.option_folders import known_options
from zpipe.compose.quoting import takes_text
from zpipe.hydra_text import plain_text
from zpipe.problems import nearest
from zpipe.resources import config_groups
from zpipe.schema.experiment import Experiment, defaults
from zpipe.trees import unflatten, value_at


def is_accepted(key: str, value: str) -> bool:
    """Whether the type of the key, or the group, takes this value; for a sweep, each of its values."""
    if key.startswith("hydra."):
        return bool(value)
    try:
        parsed = OverridesParser.create().parse_override(f"{key}={value}").value()
    except HydraException:
        return takes_text(key) and bool(value)
    values = parsed.list if isinstance(parsed, ChoiceSweep) else [parsed]
    if key in config_groups():
        return all(str(_plain(each)) in known_options(key) for each in values)
    return all(_validates(key, _plain(each)) for each in values)


def accepted(overrides: Iterable[tuple[str, str]]) -> str:
    """The overrides for a shell; empty if one of them would be refused."""
    pairs = list(overrides)
    if not all(is_accepted(key, value) for key, value in pairs):
        return ""
    return " ".join(
        shlex.quote(f"{key}={value}") if " " in value else f"{key}={value}" for key, value in pairs
    )


def accepted_for(keys: Iterable[str], value: str) -> str:
    """An override for each of the keys that takes the value."""
    return " or ".join(filter(None, (accepted([(key, value)]) for key in keys)))


def nearest_accepted(key: str, value: str) -> str:
    """An override of this key or group: with the value, or else with a similar option or the default."""
    given = accepted([(key, value)])
    if given:
        return given
    if key in config_groups():
        similar = nearest(value, known_options(key))
        return " or ".join(f"{key}={option}" for option in similar or known_options(key)[:1])
    return default_override(key)


def default_override(key: str) -> str:
    """The override that sets a key to its default; empty if it is a mapping or a list."""
    default = value_at(defaults(), key)
    if isinstance(default, Mapping | list):
        return ""
    return f"{key}={plain_text(default)}"


def _validates(key: str, value: Any) -> bool:
    try:
        Experiment.model_validate(unflatten({key: value}))
    except ValidationError:
        return False
    return True


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value
