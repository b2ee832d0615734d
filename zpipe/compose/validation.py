"""Validates composed values as an Experiment and translates pydantic's errors into problems."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from zpipe.compose.names import known_keys
from zpipe.problems import Problem, Refusal, nearest
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
        yield _problem(key, details)


def _is_key_part(part: str | int, values: Mapping[str, Any], loc: tuple[str | int, ...]) -> bool:
    """pydantic appends the name of the member type to the location of a union's error, which is not a key."""
    position = loc.index(part)
    block: Any = values
    for name in loc[:position]:
        block = block.get(name) if isinstance(block, Mapping) else None
    return isinstance(block, Mapping) and part in block


def _problem(key: str, details: list[Any]) -> Problem:
    value = details[0]["input"]
    if details[0]["type"] == "extra_forbidden":
        return _unknown(key, value)
    if details[0]["type"] == "model_type":
        return Problem(key, value, NOT_VALID, "a mapping of keys; leave it out for the defaults")
    removed = removed_optimizer(value) if key == "optimizer.type" and isinstance(value, str) else None
    if removed is not None:
        return Problem(key, value, removed.reason, fix=removed.instead)
    reasons = dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in details)
    allowed = "; ".join(reasons).replace("Input should be ", "")
    return Problem(key, value, NOT_VALID, allowed, _fix(key, value, details))


def _unknown(key: str, value: Any) -> Problem:
    if key in known_keys():
        block, _, name = key.rpartition(".")
        reason = "no such key: in YAML, keys are nested instead of joined with dots"
        return Problem(key, value, reason, f"{block}: {{{name}: {value}}}")
    near = nearest(key, known_keys())
    fix = " or ".join(f"{name}={value}" for name in near)
    return Problem(key, value, "no such key (it comes from a YAML file)", fix=fix)


def _fix(key: str, value: Any, details: list[Any]) -> str:
    """An override with a valid value, if pydantic's errors show one."""
    for detail in details:
        example = _example(value, detail)
        if example is not None:
            return shlex.quote(f"{key}={example}")
    return ""


def _example(value: Any, detail: Any) -> str | None:
    context = detail.get("ctx", {})
    if "expected" in context:
        return str(context["expected"]).split(",")[0].split(" or ")[0].strip("'")
    for bound, offset in {"ge": 0, "le": 0, "gt": 1, "lt": -1}.items():
        if bound in context:
            return str(context[bound] + offset)
    kind = str(detail["type"]).partition("_")[0]
    wrapped = {"string": f'"{value}"', "list": f"[{value}]", "tuple": f"[{value}]"}
    plain = {"bool": "true", "int": "1", "float": "1", "finite": "1"}
    return plain.get(kind) or (wrapped.get(kind) if isinstance(value, str | int | float) else None)
