"""The output formats of `zpipe plan` and `zpipe diff`: text and tables for people, data for programs."""

import json
from collections.abc import Iterable
from typing import Any, Literal, get_args

from zpipe.yaml_text import yaml_text

Format = Literal["text", "json", "yaml", "table"]
FORMATS: tuple[Format, ...] = get_args(Format)


def print_data(value: Any, form: Format) -> None:
    """Prints plain values as JSON or YAML."""
    if form == "yaml":
        print(yaml_text(value), end="")
    else:
        print(json.dumps(value, indent=2, ensure_ascii=False))


def print_list(values: Iterable[Any], form: Format) -> None:
    """Prints a list as `print_data` does, one value at a time: it may not fit into memory."""
    if form == "yaml":
        for value in values:
            print_data([value], form)
        return
    separator = "[\n"
    for value in values:
        text = json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        print(f"{separator}  {text}", end="")
        separator = ",\n"
    print("\n]")


def is_data(form: Format) -> bool:
    """Whether the format is meant for programs."""
    return form in ("json", "yaml")
