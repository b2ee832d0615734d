"""Values of Python → overrides in Hydra's grammar."""

from collections.abc import Iterator, Mapping
from typing import Any

from zpipe.compose.quoting import quoted
from zpipe.resources import config_groups
from zpipe.trees import leaves


def overrides_from(settings: Mapping[str, Any]) -> list[str]:
    """One override for each leaf; keys may be dotted, and a group may be given its option.

    `{"stage": 3, "train": {"max_steps": 10}}` becomes `stage=3` and `train.max_steps=10`.
    """
    return list(_overrides(settings))


def override(key: str, value: Any) -> str:
    """The override that sets this key to this value."""
    return f"{key}={value}" if key in config_groups() else f"{key}={_literal(value)}"


def _overrides(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in leaves(settings):
        yield override(key, value)


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(_literal(each) for each in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(each)}" for key, each in value.items()) + "}"
    return repr(value) if isinstance(value, int | float) else quoted(str(value))
