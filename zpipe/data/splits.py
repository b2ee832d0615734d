"""The split that a data file belongs to, as `datasets` reads it from its name or its folder's name.

Upstream: datasets/data_files.py (SPLIT_KEYWORDS, SPLIT_PATTERN_SHARDED).
"""

import re
from collections.abc import Iterable
from pathlib import PurePath

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
TRAIN = "train"
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")
_WORDS = re.compile(r"[-._ 0-9]+")
_SPLIT_OF = {word: split for split, words in KEYWORDS.items() for word in words}


def split_of(file: PurePath) -> str | None:
    """The split that a path relative to its data folder names; None if it names none, or several."""
    shard = _SHARD.fullmatch(file.stem)
    if shard:
        return canonical(shard[1])
    for part in (*reversed(file.parent.parts), file.stem):
        found = {_SPLIT_OF[word] for word in _WORDS.split(part.lower()) if word in _SPLIT_OF}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def canonical(name: str) -> str:
    """The name that `datasets` gives a split: `val` and `dev` are `validation`."""
    return _SPLIT_OF.get(name.lower(), name)


def by_split(files: Iterable[PurePath]) -> dict[str, list[PurePath]]:
    """The files of each split. Files that name none are for training, unless others name `train`."""
    groups: dict[str, list[PurePath]] = {}
    for file in files:
        groups.setdefault(split_of(file) or "", []).append(file)
    unnamed = groups.pop("", [])
    if unnamed:
        groups.setdefault("" if TRAIN in groups else TRAIN, []).extend(unnamed)
    return groups
