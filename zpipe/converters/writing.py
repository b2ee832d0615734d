"""Writes options and values as a command line or a recipe."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zpipe.compose.settings import is_plain, literal
from zpipe.trees import leaves, unflatten
from zpipe.yaml_text import yaml_text


def overrides_of(options: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
    """Overrides, options first. Mappings become one override per key, because Hydra merges mappings."""
    chosen = [f"{group}={option}" for group, option in options.items()]
    return chosen + [f"{key}={literal(value)}" for key, value in leaves(values) if value != {}]


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
    body = yaml_text(tree) if tree else ""
    return "\n".join(lines) + "\n" + (f"\n{body}" if body else "")


def _option(option: str) -> str:
    return option if is_plain(option) and option != "no" else f'"{option}"'
