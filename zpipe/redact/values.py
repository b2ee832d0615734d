"""Secrets by their value: those that this process was given are hidden wherever they appear."""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from urllib.parse import unquote

from zpipe.redact.names import HIDDEN, is_secret_name, is_shown

_SHORTEST = 6
"""Shorter values occur in ordinary text too; they are hidden where a password stands, not everywhere."""
_SHORTEST_INSIDE_WORDS = 12
_COMMON = frozenset(
    " ".join(
        (
            "mlflow postgres postgresql mariadb sqlite oracle administrator password passwd",
            "secret tester",
            "testing training trainer default deepspeed example changeme public localhost",
            "database python",
            "pytorch transformers tracking server client worker launcher optimizer scheduler precision",
            "offload checkpoint recipe config master replica readonly readwrite service account",
            "string number",
            "integer system access refused finished failed interrupted environment outputs",
            "experiment version",
            "username sample metrics events anonymous 123456 1234567 12345678 123456789",
        )
    ).split()
)
"""Passwords that are words of logs and of zpipe's files."""

_MIXED = re.compile(r"(?=[^\d]*\d)(?=[^a-zA-Z]*[a-zA-Z])[\w+=.~-]{8,}")
"""A random-looking value: letters and digits, no path."""

_known: set[str] = set()


def without_known_values(text: str, more: Iterable[str] = ()) -> str:
    """The text with `***` for every secret value that this process was given."""
    for secret in sorted({*_known, *of_this_process(), *more}, key=len, reverse=True):
        if secret in text:
            text = _replace(text, secret)
    return text


def remember(values: Iterable[str]) -> None:
    """Hides these values from now on, unless they are ordinary words."""
    _known.update(value for value in values if is_distinctive(value))


def is_distinctive(value: str) -> bool:
    """Whether the value can be replaced in any text without hiding anything but the secret."""
    if len(value) < _SHORTEST or value == HIDDEN or value.lower() in _COMMON:
        return False
    return not (value.isdigit() and len(value) < _SHORTEST_INSIDE_WORDS)


def secrets_among(variables: Mapping[str, str]) -> set[str]:
    """The values of variables with secret-like names, and passwords in URLs that other variables hold."""
    found = {value for name, value in variables.items() if is_secret_name(name) and is_distinctive(value)}
    return found.union(*(secrets_of(value) for value in variables.values() if "://" in value))


def unexplained(variables: Mapping[str, str]) -> set[str]:
    """Random-looking values of variables that are not known settings."""
    return {
        value
        for name, value in variables.items()
        if not is_shown(name, value) and _MIXED.fullmatch(value) is not None
    }


def secrets_of(uri: str) -> set[str]:
    """The password of the URI, as written and decoded, because error messages may contain either form.

    A password that is also the user, the host or a word of its path is public and not among them.
    """
    scheme, _, rest = uri.partition("://")
    user, at, place = rest.rpartition("@")
    if not at or scheme.startswith("sqlite"):
        return set()
    name, colon, password = user.partition(":")
    if not colon and scheme.lower().startswith("http"):
        name, password = "", name
    public = {name, *re.split(r"[/:?&=.]", place)}
    return {each for each in (password, unquote(password)) if is_distinctive(each)} - public


@cache
def of_this_process() -> frozenset[str]:
    """Secrets in the environment of this process."""
    return frozenset(secrets_among(os.environ))


def _replace(text: str, secret: str) -> str:
    if len(secret) >= _SHORTEST_INSIDE_WORDS:
        return text.replace(secret, HIDDEN)
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
