"""Writes options and values as a command line or a recipe."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from zpipe.trees import leaves, unflatten

_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_WORDS = {"null", "true", "false", "nan", "inf", "none"}


def overrides_of(options: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
    """Overrides, options first. Mappings become one override per key, because Hydra merges mappings."""
    chosen = [f"{group}={option}" for group, option in options.items()]
    return chosen + [f"{key}={literal(value)}" for key, value in leaves(values) if value != {}]


def literal(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(str(key))}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    text = str(value)
    if _PLAIN.fullmatch(text) and (text.lower() not in _WORDS or text == "none"):
        return text
    text = _without_interpolation(text)
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', text)
    escaped += "\\" * (len(escaped) - len(escaped.rstrip("\\")))
    return f'"{escaped}"'


def _without_interpolation(value: Any) -> Any:
    """Escapes `${`, which OmegaConf would read as a reference to another key."""
    if isinstance(value, str):
        return value.replace("${", "\\${")
    if isinstance(value, list):
        return [_without_interpolation(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _without_interpolation(inner) for name, inner in value.items()}
    return value


def command_line(overrides: Iterable[str]) -> str:
    """One line, quoted for a shell."""
    return shlex.join(overrides)


def recipe_of(
    file: Path, origin: Iterable[str], options: Mapping[str, str], values: Mapping[str, Any]
) -> str:
    """The text of a recipe. Its first comment is the command that runs it."""
    lines = [f"# python -m zpipe recipe={file}", f"# Imported from {', '.join(origin)}.", "defaults:"]
    lines += [f"  - override /{group}: {_option(option)}" for group, option in options.items()]
    tree = unflatten({key: _without_interpolation(value) for key, value in values.items()})
    body = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) if tree else ""
    return "\n".join(lines) + "\n" + (f"\n{body}" if body else "")


def _option(option: str) -> str:
    return option if _PLAIN.fullmatch(option) and option != "no" else f'"{option}"'
