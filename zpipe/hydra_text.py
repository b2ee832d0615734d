"""Text as Hydra's grammar of overrides reads it."""

import re
from typing import Any


def quoted(value: str, mark: str = "'") -> str:
    """The value as a quoted string of Hydra's grammar, in which a backslash acts only before a quote."""

    def escaped(found: re.Match[str]) -> str:
        return found[1] * 2 + (f"\\{mark}" if found[2] else "")

    return mark + re.sub(rf"(\\*)({mark}|\Z)", escaped, value) + mark


def plain_text(value: Any) -> str:
    """A value as YAML and overrides write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
