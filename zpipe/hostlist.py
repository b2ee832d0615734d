"""Many nodes in few characters, as Slurm writes them: 0-3,7 and n[0-3,7]."""

import re
from collections.abc import Iterable
from itertools import groupby

_NUMBERED = re.compile(r"([^.]*?)(\d+)([^\d.]*(?:\..*)?)")
"""A host name around the last number before its domain."""


def numbers_text(numbers: Iterable[int]) -> str:
    """Numbers in order, neighbours as a range: 0-3,7."""
    return _ranges([str(number) for number in sorted(set(numbers))])


def nodes_text(numbers: list[int]) -> str:
    """For messages: node 7, nodes 1-1023."""
    return f"node{'s' if len(numbers) > 1 else ''} {numbers_text(numbers)}"


def hosts_text(names: Iterable[str]) -> str:
    """Host names in order, those that differ in their last number as one: n[0-3,7],login."""
    split = sorted(map(_split, set(names)))
    groups = groupby(split, key=lambda parts: (parts[0], parts[1]))
    return ",".join(
        _group(prefix, suffix, [digits for *_, digits in each]) for (prefix, suffix), each in groups
    )


def _split(name: str) -> tuple[str, str, int, int, str]:
    """What is before and after the number, its value and its digits. Sorts by the number."""
    match = _NUMBERED.fullmatch(name)
    if match is None:
        return name, "", 0, 0, ""
    prefix, digits, suffix = match.groups()
    return prefix, suffix, int(digits), len(digits), digits


def _group(prefix: str, suffix: str, digits: list[str]) -> str:
    if len(digits) == 1:
        return f"{prefix}{digits[0]}{suffix}"
    return f"{prefix}[{_ranges(digits)}]{suffix}"


def _ranges(digits: list[str]) -> str:
    """Digits in order; 09 and 10 are neighbours, 9 and 010 are not."""
    runs: list[list[str]] = []
    for each in digits:
        if runs and each == str(int(runs[-1][-1]) + 1).zfill(len(runs[-1][-1])):
            runs[-1].append(each)
        else:
            runs.append([each])
    return ",".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
