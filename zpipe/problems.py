"""Problems in the user's input. They are collected first and then refused all at once."""

import re
from collections.abc import Iterable
from typing import NamedTuple

_SIMILAR = 0.77
"""Least similarity of a suggested name: 1 for the same name, less 1/length for each wrong character."""


class Fix(str):
    """Overrides that solve a problem, as text for a message that keeps its parts for programs."""

    alternatives: tuple[str, ...]
    """Each solves the problem alone; best first. One or more overrides, separated by blanks."""


def either(*alternatives: str) -> Fix:
    """A fix with these alternatives: `either("stage=3", "offload=none")`."""
    fix = Fix(", or ".join(alternatives))
    fix.alternatives = alternatives
    return fix


class Problem(NamedTuple):
    """One reason to refuse: the key, the given value, what is allowed and the override that fixes it."""

    key: str
    value: object
    reason: str
    allowed: str = ""
    fix: str = ""
    """What the user can do. Rules give a Fix."""
    ignored: bool = False
    """Whether the frameworks accept the setting and do nothing with it. An import leaves it out."""

    def __str__(self) -> str:
        given = self.key if self.value == "" else f"{self.key}={_shown(self.value)}"
        lines = [f"{given}: {self.reason}"]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.fix:
            lines.append(f"  try:     {self.fix}")
        return "\n".join(lines)


class Refusal(Exception):
    """The input is invalid. Holds every problem that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def refuse_if_any(problems: Iterable[Problem]) -> None:
    """Raises Refusal with all problems, if there are any."""
    collected = list(problems)
    if collected:
        raise Refusal(collected)


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that are most similar to the given one, best first; empty if none is similar.

    If some are one typing error away, only these are returned.
    """
    from rapidfuzz import process  # only refusals need it
    from rapidfuzz.distance import OSA

    names = sorted(known, key=lambda each: (len(each), each))  # known may be a set, and ties stay in order
    one_error_away = [each for each in names if one_edit_apart(name, each)]
    if one_error_away:
        return one_error_away[:most]
    similar = process.extract(
        name, names, scorer=OSA.normalized_similarity, processor=str.lower, limit=most, score_cutoff=_SIMILAR
    )
    return [match for match, _, _ in similar] or [each for each in names if _abbreviates(name, each)][:most]


def _abbreviates(name: str, known: str) -> bool:
    """Whether the known name has all words of the given one, and few others: `bucket_size`."""
    given, words = (set(re.split(r"[_.\- ]", each.lower())) for each in (name, known))
    return given < words and 2 * len(name) > len(known)


def one_edit_apart(one: str, other: str) -> bool:
    """Whether the names differ by one inserted, missing or wrong character, or by two swapped neighbors."""
    from rapidfuzz.distance import OSA

    return OSA.distance(one, other, score_cutoff=1) == 1


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
