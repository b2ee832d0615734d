"""Text as Hydra's grammar of overrides reads it."""

import re


def quoted(value: str, mark: str = "'") -> str:
    """The value as a quoted string of Hydra's grammar, in which a backslash acts only before a quote."""

    def escaped(found: re.Match[str]) -> str:
        return found[1] * 2 + (f"\\{mark}" if found[2] else "")

    return mark + re.sub(rf"(\\*)({mark}|\Z)", escaped, value) + mark
