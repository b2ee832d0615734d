"""Keeps passwords out of everything that is printed, logged or sent to the tracking server."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

_USER_AND_PASSWORD = re.compile(r"(?<=://)([^\s/:@\"']*):[^\s\"']*@")
_TOKEN_AS_USER = re.compile(r"(https?://)[^\s/:@\"']+@")
_SECRET_ARGUMENT = re.compile(
    r"([?&][\w-]*(?:password|passwd|pwd|token|secret|api_?key|access_?key)=)[^&\s\"']*", re.IGNORECASE
)
_SECRET_NAME = re.compile(
    r"password|passwd|secret|credential|api_?key|access_?key|(^|_)token$", re.IGNORECASE
)
_SECRET_ITEM = re.compile(
    r"([{,]\s*[\w-]*(?:password|passwd|secret|credential|api_?key|access_?key|token)['\"]?\s*:\s*)[^,}]*",
    re.IGNORECASE,
)
"""An item of a mapping as Hydra writes it: {HF_TOKEN: abc}."""
_SHORTEST_SECRET = 4
"""Replacing a shorter password wherever it occurs would garble ordinary text."""


def redact_uri(uri: str) -> str:
    """The URI with its password, access token or secret arguments replaced by `***`."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.startswith("sqlite"):
        return uri
    user, at, host = rest.rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        rest = f"{name}:{HIDDEN}@{host}" if colon else f"{_hidden_user(scheme, user)}@{host}"
    return _SECRET_ARGUMENT.sub(rf"\1{HIDDEN}", f"{scheme}://{rest}")


def redact(text: str, uri: str | None = None) -> str:
    """The text without the secrets of any URI in it, nor those of the given one in any form."""
    if uri is not None:
        text = text.replace(uri, redact_uri(uri))
        for secret in _secrets_of(uri):
            text = text.replace(secret, HIDDEN)
    text = _USER_AND_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _TOKEN_AS_USER.sub(rf"\1{HIDDEN}@", text)
    return _SECRET_ARGUMENT.sub(rf"\1{HIDDEN}", text)


def redact_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with the values of those whose names sound like secrets replaced by `***`."""
    return {name: HIDDEN if _SECRET_NAME.search(name) else redact(value) for name, value in variables.items()}


def redact_override(override: str) -> str:
    """An override as typed, without the secret that it may set."""
    key, equals, _ = override.partition("=")
    if equals and _SECRET_NAME.search(key.rpartition(".")[2]):
        return f"{key}={HIDDEN}"
    return redact(_SECRET_ITEM.sub(rf"\1{HIDDEN}", override))


def redact_value(key: str, value: Any) -> Any:
    """The value of a dotted key, without the secrets in it."""
    if isinstance(value, Mapping):
        return {name: redact_value(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [redact_value(key, inner) for inner in value]
    if not isinstance(value, str):
        return value
    return HIDDEN if _SECRET_NAME.search(key.rpartition(".")[2]) else redact(value)


def _hidden_user(scheme: str, user: str) -> str:
    """Over HTTP a user without a password is an access token; a database's user is a mere name."""
    return HIDDEN if scheme.startswith("http") else user


def _secrets_of(uri: str) -> list[str]:
    """The password of the URI as written and decoded: error messages may show either."""
    scheme, _, rest = uri.partition("://")
    user, at, _ = rest.rpartition("@")
    if not at or scheme.startswith("sqlite"):
        return []
    _, _, password = user.partition(":")
    secrets = {password, unquote(password)}
    return sorted((secret for secret in secrets if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True)
