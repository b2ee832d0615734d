"""Validates composed values as an Experiment and translates pydantic's errors into problems."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from zpipe.compose.accepted import default_override
from zpipe.compose.names import check_key, known_keys
from zpipe.compose.translate import translated_key
from zpipe.hydra_text import plain_text
from zpipe.machine.cards import GROUP
from zpipe.machine.hardware_fixes import NUMBER, number_of_gpus
from zpipe.problems import Fix, Problem, Refusal, either, nearest
from zpipe.schema.experiment import Experiment
from zpipe.schema.removed import removed_optimizer

NOT_VALID = "not a valid value"
"""The reason of a Problem with a value of the wrong type or range."""


def validated(values: Mapping[str, Any]) -> Experiment:
    """The typed experiment. Raises Refusal with every invalid value."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise Refusal(_problems(error, values)) from None


def _problems(error: ValidationError, values: Mapping[str, Any]) -> Iterator[Problem]:
    by_key: dict[str, list[Any]] = {}
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"] if _is_key_part(part, values, detail["loc"]))
        by_key.setdefault(key, []).append(detail)
    for key, details in by_key.items():
        yield _problem(key, details, values)


def _is_key_part(part: str | int, values: Mapping[str, Any], loc: tuple[str | int, ...]) -> bool:
    """pydantic appends the name of the member type to the location of a union's error, which is not a key."""
    position = loc.index(part)
    block: Any = values
    for name in loc[:position]:
        block = block.get(name) if isinstance(block, Mapping) else None
    return isinstance(block, Mapping) and part in block


def _problem(key: str, details: list[Any], values: Mapping[str, Any]) -> Problem:
    value = details[0]["input"]
    if details[0]["type"] == "extra_forbidden":
        return _unknown(key, value)
    if details[0]["type"] == "model_type":
        allowed = "a mapping of keys; leave it out for the defaults"
        return translated_key(key, plain_text(value)) or Problem(key, value, NOT_VALID, allowed)
    removed = removed_optimizer(value) if key == "optimizer.type" and isinstance(value, str) else None
    if removed is not None:
        return Problem(key, value, removed.reason, fix=removed.instead)
    reasons = dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in details)
    allowed = "; ".join(reasons).replace("Input should be ", "")
    return Problem(key, value, NOT_VALID, allowed, _fix(key, details, values))


def _unknown(key: str, value: Any) -> Problem:
    if key in known_keys():
        block, _, name = key.rpartition(".")
        reason = "no such key: in YAML, keys are nested instead of joined with dots"
        return Problem(key, value, reason, f"{block}: {{{name}: {value}}}")
    problem = check_key(key, plain_text(value)) or Problem(key, value, "no such key")
    return problem._replace(reason=f"{problem.reason} (it comes from a YAML file)")


def _fix(key: str, details: list[Any], values: Mapping[str, Any]) -> Fix | str:
    """Overrides with valid values: similar ones first, then the default."""
    value = details[0]["input"]
    if key == f"{GROUP}.{NUMBER}":
        return either(number_of_gpus(values[GROUP]))
    for detail in details:
        kind, choices = str(detail["type"]).partition("_")[0], _choices(detail)
        if kind in ("string", "list", "tuple") and isinstance(value, str | int | float):
            return either(shlex.quote(f"{key}={_wrapped(kind, value)}"))
        if kind == "bool":
            return either(f"{key}=true", f"{key}=false")
        similar = nearest(str(value), choices)
        if similar:
            return either(*(f"{key}={choice}" for choice in similar))
    default = default_override(key) if key in known_keys() else ""
    return either(default) if default else ""


def _choices(detail: Any) -> list[str]:
    """The values that pydantic expects, from `'a', 'b' or 'c'`."""
    expected = str(detail.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
    return [choice.strip("'") for choice in expected.split(", ") if choice]


def _wrapped(kind: str, value: object) -> str:
    return f'"{value}"' if kind == "string" else f"[{value}]"
