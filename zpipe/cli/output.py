"""The output formats of `zpipe plan` and `zpipe diff`: text and tables for people, data for programs."""

import json
from typing import Any, Literal, get_args

Format = Literal["text", "json", "yaml", "table"]
FORMATS: tuple[Format, ...] = get_args(Format)


def print_data(value: Any, form: Format) -> None:
    """Prints plain values as JSON or YAML."""
    if form == "yaml":
        import yaml

        print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")
    else:
        print(json.dumps(value, indent=2, ensure_ascii=False))


def is_data(form: Format) -> bool:
    """Whether the format is meant for programs."""
    return form in ("json", "yaml")
