"""Values of Python → overrides in Hydra's grammar."""

import re
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from zpipe.hydra_text import quoted
from zpipe.resources import config_groups
from zpipe.trees import leaves

_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_WORDS = frozenset({"null", "true", "false", "nan", "inf"})
"""Words that are not text in Hydra's grammar."""


def overrides_from(settings: Mapping[str, Any]) -> list[str]:
    """One override for each leaf; keys may be dotted, and a group may be given its option.

    `{"stage": 3, "train": {"max_steps": 10}}` becomes `stage=3` and `train.max_steps=10`.
    """
    return list(_overrides(settings))


def override(key: str, value: Any) -> str:
    """The override that sets this key to this value."""
    if key in config_groups():
        return f"{key}={'null' if value is None else value}"
    return f"{key}={literal(value)}"


def _overrides(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in leaves(settings):
        yield override(key, value)


def literal(value: Any) -> str:
    """A value in the grammar of Hydra's overrides; text is quoted unless it is a plain word.

    Text arrives as it is: `${…}` in it refers to nothing.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Integral):  # numbers of numpy too, whose repr names their type
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(str(key))}: {literal(each)}" for key, each in value.items()) + "}"
    text = str(value)
    return text if is_plain(text) else quoted(without_interpolation(text), '"')


def without_interpolation(text: str) -> str:
    """The text that OmegaConf resolves to this text: a backslash before `${` takes its meaning."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", text)


def is_plain(text: str) -> bool:
    """Whether Hydra's grammar reads the text as itself, without quotes."""
    return _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
