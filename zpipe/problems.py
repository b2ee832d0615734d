"""Problems of the user's input: collected first, then refused all at once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One reason to refuse: which key, what was given, what is allowed and what mends it."""

    key: str
    value: object
    reason: str
    allowed: str = ""
    fix: str = ""

    def __str__(self) -> str:
        given = self.key if self.value == "" else f"{self.key}={_shown(self.value)}"
        lines = [f"{given}: {self.reason}"]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.fix:
            lines.append(f"  try:     {self.fix}")
        return "\n".join(lines)


class Refusal(Exception):
    """The input cannot be run as it is. Carries every problem that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def refuse_if_any(problems: Iterable[Problem]) -> None:
    """Raises Refusal with all of the problems, or returns when there is none."""
    collected = list(problems)
    if collected:
        raise Refusal(collected)


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that look most like the given one, best first; empty if none is near.

    Names that one slip of a finger explains leave all others out.
    """
    names = list(known)
    slips = [each for each in names if one_edit_apart(name, each)]
    return slips[:most] or difflib.get_close_matches(name, names, n=most, cutoff=0.6)


def one_edit_apart(one: str, other: str) -> bool:
    """Whether one character more, less or other, or two that changed places, make the one of the other."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    pairs = enumerate(zip(one, other, strict=False))
    first = next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
    left, right = one[first:], other[first:]
    swapped = left[:2] == right[:2][::-1] and left[2:] == right[2:]
    return swapped or left[1:] == right or left == right[1:] or left[1:] == right[1:]


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
