"""Cards as people write them, such as `8xA100`, `h100x8` or `A100-80G`, and the nearest options."""

import re
from collections.abc import Iterable, Iterator

from zpipe.problems import nearest

MOST_PROPOSED = 3
_TIMES = r"\s*[x*]\s*"
_COUNT = r"(?P<count>[1-9]\d{0,3})"
_COUNTED = re.compile(rf"{_COUNT}{_TIMES}(?P<name>.*\d.*)", re.IGNORECASE | re.ASCII)
_COUNTED_BEHIND = re.compile(rf"(?P<name>.*\d.*){_TIMES}{_COUNT}", re.IGNORECASE | re.ASCII)
_OF_EVERY_CARD = re.compile(r"nvidia|tesla|geforce|sxm\d?|hbm\d?e?|gpus?|generation")
_MEMORY = re.compile(r"(\d+)(?:g|gb|gib)")


def counted(text: str) -> tuple[int | None, str]:
    """The number of GPUs, None if there is none, and the name."""
    match = _COUNTED.fullmatch(text.strip()) or _COUNTED_BEHIND.fullmatch(text.strip())
    return (int(match["count"]), match["name"]) if match else (None, text)


def nearest_cards(name: str, options: Iterable[str]) -> list[str]:
    """The options with the letters and numbers of the name: all of them, or else most; best first."""
    options, wanted = list(options), _parts(name)
    if not any(part.isdigit() for part in wanted):
        return nearest(name, options)
    with_all = [option for option in options if wanted <= _parts(option)]
    found = with_all or [option for option in options if len(wanted & _parts(option)) > 1]
    ranked = sorted(found, key=lambda option: _distance(wanted, _parts(option)))
    same = [option for option in ranked if _parts(option) == wanted]
    return (same or ranked or nearest(name, options))[:MOST_PROPOSED]


def _parts(name: str) -> frozenset[str]:
    """Letters and numbers, without what many cards have in their names: A100-SXM4-80GB has a, 100 and 80."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return frozenset(part for word in words for part in _parts_of_word(word))


def _parts_of_word(word: str) -> Iterator[str]:
    memory = _MEMORY.fullmatch(word)
    if memory is not None:
        yield memory[1]
    elif not _OF_EVERY_CARD.fullmatch(word):
        yield from re.findall(r"[a-z]+|\d+", word)


def _distance(wanted: frozenset[str], parts: frozenset[str]) -> tuple[int, int, int]:
    """Different parts; then the size of the memory goes before a word, and more memory before less."""
    numbers = [int(part) for part in parts - wanted if part.isdigit()]
    return len(wanted ^ parts), len(parts - wanted) - len(numbers), -max(numbers, default=0)
