"""Keeps passwords out of everything that is printed, logged or sent to the tracking server.

Secrets are recognized by their place (a variable of the workers, the password of a URL), by their name
(`API_KEY=…`, `"password": …`), by their form (access tokens), and by their value, if an override or a
variable gave it to this process. A value that is short or an ordinary word is hidden in its place only.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from zpipe.redact.forms import without_secret_forms
from zpipe.redact.names import HIDDEN, is_reference, is_secret_name, is_shown
from zpipe.redact.values import remember, secrets_among, secrets_of, unexplained, without_known_values

__all__ = [
    "HIDDEN",
    "redact",
    "redact_environment",
    "redact_override",
    "redact_tags",
    "redact_tree",
    "redact_uri",
    "remember_overrides",
    "remember_secrets",
    "secrets_among",
]

_VARIABLES = ("launcher.env", "launch.env", "hydra.job.env_set")
"""Mappings of environment variables, by their dotted key."""
_NO_VALUES = ("", "null", "true", "false")


def redact_uri(uri: str) -> str:
    """The URI with its password, access token or secret arguments replaced by `***`."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.startswith("sqlite"):
        return uri
    user, at, host = rest.rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        rest = f"{name}:{HIDDEN}@{host}" if colon else f"{_hidden_user(scheme, user)}@{host}"
    return without_secret_forms(f"{scheme}://{rest}")


def redact(text: str, uri: str | None = None) -> str:
    """The text without recognizable secrets and without those of the given URI."""
    secrets: set[str] = set()
    if uri is not None:
        text = text.replace(uri, redact_uri(uri))
        secrets = secrets_of(uri)
    return without_secret_forms(without_known_values(text, secrets))


def remember_secrets(variables: Mapping[str, str], uri: str | None = None) -> None:
    """Registers the secrets in these variables and in the URI, so that `redact` hides them everywhere."""
    remember(secrets_among(variables) | unexplained(variables) | secrets_of(uri or ""))


def remember_overrides(overrides: Iterable[str]) -> None:
    """Registers the secrets that overrides set, so that no message that repeats a value shows them."""
    for override in overrides:
        key, equals, given = override.partition("=")
        if not equals and "://" not in key:
            continue
        if "://" in key:  # an argument of --uri
            key, given = "", override
        name = key.lstrip("+~").rpartition(".")[2]
        texts = (each for each in (given, *given.split(",")) if not is_reference(each))
        values = {each.strip("\"'[]{} ") for each in texts}
        if is_secret_name(name):
            remember(values)
        elif key.lstrip("+").startswith("launcher.env."):
            remember(unexplained({name: value}).pop() for value in values if unexplained({name: value}))
        for value in values:
            remember(secrets_of(value) if "://" in value else ())


def redact_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, with `***` for all but known settings and switches."""
    return {name: redact(value) if is_shown(name, value) else HIDDEN for name, value in variables.items()}


def redact_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags, with `***` for the values of those with secret-like names."""
    return {name: HIDDEN if is_secret_name(name) else redact(value) for name, value in tags.items()}


def redact_override(override: str) -> str:
    """An override as typed, without the secret that it sets, if any."""
    key, equals, value = override.partition("=")
    plain = key.lstrip("+~")
    if not equals:
        return redact(override)
    if is_reference(value):
        return override
    if plain in _VARIABLES or (plain in ("launcher", "launch") and "env" in value):
        return f"{key}={HIDDEN}"
    if plain.startswith(tuple(f"{place}." for place in _VARIABLES)):
        return f"{key}={_variable(plain, value.strip(chr(34) + chr(39)), value)}"
    if is_secret_name(plain.rpartition(".")[2]) and value not in _NO_VALUES:
        return f"{key}={HIDDEN}"
    return redact(override)


def redact_tree(value: Any, key: str = "") -> Any:
    """The JSON value of a dotted key without secrets in texts, environments and under secret-like keys."""
    if isinstance(value, Mapping):
        return {
            name: redact_tree(inner, f"{key}.{name}" if key else str(name)) for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_tree(inner, key) for inner in value]
    parent, _, name = key.rpartition(".")
    if parent.endswith(_VARIABLES):
        return value if value is None else _variable(key, str(value), value)
    if not isinstance(value, str):
        return value
    return HIDDEN if is_secret_name(name) and value not in _NO_VALUES else redact_override(value)


def _variable(key: str, text: str, value: Any) -> Any:
    name = key.rpartition(".")[2]
    return (redact(value) if isinstance(value, str) else value) if is_shown(name, text) else HIDDEN


def _hidden_user(scheme: str, user: str) -> str:
    """Over HTTP a user without a password is an access token; in a database URI it is only a name."""
    return HIDDEN if scheme.lower().startswith("http") else user
