"""Keeps passwords out of everything that is printed, logged or sent to the tracking server.

Secrets are recognized in three ways: by their form (access tokens, passwords in URLs), by their name
(`API_KEY=…`, `"password": …`), and by their value, if an environment variable with a secret-like name holds
it in this process or in its workers.
"""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

_USER_AND_PASSWORD = re.compile(r"(?<=://)([^\s/:@\"']*):[^\s\"']*@")
_TOKEN_AS_USER = re.compile(r"(https?://)[^\s/:@\"']+@")
_SECRET_ARGUMENT = re.compile(
    r"([?&][\w-]*(?:password|passwd|pwd|token|secret|api_?key|access_?key)=)[^&\s\"']*", re.IGNORECASE
)
_NAMES = r"password|passwd|passphrase|secret|credential|api_?key|access_?key|private_?key"
_SECRET_NAME = re.compile(rf"{_NAMES}|(^|[_.-])token$|[_-](pwd|pass|pat|key)$", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"((?:{_NAMES}|(?<![a-z])token)[\"']?\s*[=:]\s*[\"']?)(?!null\b|true\b|false\b)[^\s\"',;&{{\[\]}}]+",
    re.IGNORECASE,
)
_SECRET_ITEM = re.compile(
    r"([{,]\s*[\w-]*(?:password|passwd|secret|credential|api_?key|access_?key|token)['\"]?\s*:\s*)[^,}]*",
    re.IGNORECASE,
)
"""An item of a mapping in Hydra's grammar: {HF_TOKEN: abc}."""
_TOKEN = re.compile(
    r"\b(?:hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|dapi[0-9a-f]{32})\b"
)
_BEARER = re.compile(r"\b(bearer\s+|authorization[\"']?\s*[:=]\s*[\"']?\w+\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_STEMS = (
    *("://", "passw", "passphrase", "pwd", "secret", "credential", "key", "token", "bearer", "authoriz"),
    *("hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat", "glpat", "sk-", "xox", "akia", "dapi"),
)
"""Every text that the patterns above match contains one of these."""
_SHORTEST_SECRET = 4
_SHORTEST_VALUE = 6
"""Shorter values are not replaced, because they occur in ordinary text too."""

_known: set[str] = set()


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
    """The text without recognizable secrets and without those of the given URI."""
    if uri is not None:
        text = text.replace(uri, redact_uri(uri))
        text = _without(text, _secrets_of(uri))
    text = _without(text, _known | _of_this_process())
    if not _is_suspect(text):
        return text
    text = _USER_AND_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _TOKEN_AS_USER.sub(rf"\1{HIDDEN}@", text)
    text = _SECRET_ARGUMENT.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", _TOKEN.sub(HIDDEN, text))
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)


def remember_secrets(variables: Mapping[str, str], uri: str | None = None) -> None:
    """Registers the secrets in these variables and in the URI, so that `redact` hides them everywhere."""
    _known.update(secrets_among(variables), _secrets_of(uri or ""))


def secrets_among(variables: Mapping[str, str]) -> set[str]:
    """The values of variables with secret-like names, and passwords in URLs that other variables hold."""
    found = {value for name, value in variables.items() if _SECRET_NAME.search(name)}
    found = {value for value in found if len(value) >= _SHORTEST_VALUE and value != HIDDEN}
    return found.union(*(_secrets_of(value) for value in variables.values() if "://" in value))


def redact_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, with `***` for the values of those with secret-like names."""
    return {name: HIDDEN if _SECRET_NAME.search(name) else redact(value) for name, value in variables.items()}


def redact_override(override: str) -> str:
    """An override as typed, without the secret that it sets, if any."""
    key, equals, _ = override.partition("=")
    if equals and _SECRET_NAME.search(key.rpartition(".")[2]):
        return f"{key}={HIDDEN}"
    return redact(_SECRET_ITEM.sub(rf"\1{HIDDEN}", override))


def redact_tree(value: Any, key: str = "") -> Any:
    """The JSON value of a dotted key without secrets in its texts and under secret-like keys."""
    if isinstance(value, Mapping):
        return {name: redact_tree(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [redact_tree(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    return HIDDEN if _SECRET_NAME.search(key.rpartition(".")[2]) else redact_override(value)


def _is_suspect(text: str) -> bool:
    """A quick check before the slower patterns: most log lines contain none of these."""
    lowered = text.lower()
    return any(stem in lowered for stem in _STEMS)


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


@cache
def _of_this_process() -> frozenset[str]:
    return frozenset(secrets_among(os.environ))


def _hidden_user(scheme: str, user: str) -> str:
    """Over HTTP a user without a password is an access token; in a database URI it is only a name."""
    return HIDDEN if scheme.startswith("http") else user


def _secrets_of(uri: str) -> set[str]:
    """The password of the URI, as written and decoded, because error messages may contain either form."""
    scheme, _, rest = uri.partition("://")
    user, at, _ = rest.rpartition("@")
    if not at or scheme.startswith("sqlite"):
        return set()
    name, colon, password = user.partition(":")
    if not colon and scheme.startswith("http"):
        password = name
    secrets = {password, unquote(password)} - {HIDDEN}
    return {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
