"""The forms in which `zpipe plan` and `zpipe diff` print: for people, and for programs."""

import json
from typing import Any, Literal, get_args

import yaml

Format = Literal["text", "json", "yaml", "table"]
FORMATS: tuple[Format, ...] = get_args(Format)


def print_data(value: Any, form: Format) -> None:
    """Plain values as JSON or YAML on stdout."""
    if form == "yaml":
        print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")
    else:
        print(json.dumps(value, indent=2, ensure_ascii=False))


def is_data(form: Format) -> bool:
    """Whether a program is meant to read it."""
    return form in ("json", "yaml")
