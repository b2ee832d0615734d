"""Commands for people to copy: a shell reads every value as it is, and the terminal shows all of it."""

import shlex
from collections.abc import Iterable
from itertools import groupby


def command_text(argv: Iterable[str]) -> str:
    """The command as one line of a POSIX shell."""
    return " ".join(map(word, argv))


def word(value: str) -> str:
    """One word. Characters that a terminal would not show are written by printf, as bytes in octal."""
    if not value:
        return "''"
    runs = groupby(value, key=lambda each: each.isprintable() or each == "\n")
    return "".join(shlex.quote("".join(run)) if is_shown else _octal("".join(run)) for is_shown, run in runs)


def _octal(text: str) -> str:
    digits = "".join(f"\\{byte:03o}" for byte in text.encode(errors="surrogateescape"))
    return f"\"$(printf '{digits}')\""
