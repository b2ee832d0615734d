"""A one-character typo in any key is refused, and the correct key is the first suggestion."""

import random
import string
from collections.abc import Iterator

import pytest

from zpipe.compose.names import known_keys
from zpipe.compose.overrides import rewrite
from zpipe.hydra_text import plain_text
from zpipe.problems import Problem, Refusal, nearest
from zpipe.resources import config_groups
from zpipe.schema.experiment import defaults
from zpipe.trees import leaves

LETTERS = string.ascii_lowercase + string.digits + "_"
GROUPS = {group: options[0] for group, options in config_groups().items()}
VALID = {key: plain_text(value) for key, value in leaves(defaults()) if not isinstance(value, dict | list)}
VALID |= GROUPS
"""Every key of the schema and every group, each with a value that it takes."""


def deletion(key: str, at: int, chance: random.Random) -> str:
    return key[:at] + key[at + 1 :]


def insertion(key: str, at: int, chance: random.Random) -> str:
    return key[:at] + chance.choice(LETTERS) + key[at:]


def swap(key: str, at: int, chance: random.Random) -> str:
    return key[:at] + key[at : at + 2][::-1] + key[at + 2 :]


def replacement(key: str, at: int, chance: random.Random) -> str:
    return key[:at] + chance.choice(LETTERS) + key[at + 1 :]


KINDS = (deletion, insertion, swap, replacement)


def mistyped(seed: int) -> Iterator[tuple[str, str]]:
    """Each key with a mistyped form that is not a key itself, as `adam_beta2` would be for `adam_beta1`."""
    chance = random.Random(seed)
    for key in VALID:
        while True:
            typed = chance.choice(KINDS)(key, chance.randrange(len(key)), chance)
            if typed and typed not in known_keys() | set(GROUPS):
                break
        yield key, typed


def refusal_of(override: str) -> list[Problem]:
    """The problems of an override; empty if it is accepted."""
    try:
        rewrite([override])
    except Refusal as refusal:
        return list(refusal.problems)
    return []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_typo_is_refused_and_corrected(seed: int) -> None:
    wrong = {}
    for key, typed in mistyped(seed):
        problems = refusal_of(f"{typed}={VALID[key]}")
        assert problems, f"{typed} was accepted for {key}"
        if not problems[0].fix.startswith(f"{key}={VALID[key]}"):
            wrong[typed] = (key, problems[0].fix)
    assert len(VALID) > 300
    assert len(wrong) / len(VALID) <= 0.05, wrong


def test_all_typos_are_reported() -> None:
    chance = random.Random(7)
    pairs = chance.sample(list(mistyped(7)), 12)
    problems = refusal_of_all([f"{typed}={VALID[key]}" for key, typed in pairs])
    assert len(problems) == len(pairs)


def refusal_of_all(overrides: list[str]) -> list[Problem]:
    with pytest.raises(Refusal) as refused:
        rewrite(overrides)
    return list(refused.value.problems)


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("overlap_com", "overlap_comm"),
        ("voerlap_comm", "overlap_comm"),
        ("overlap__comm", "overlap_comm"),
        ("overlap_camm", "overlap_comm"),
        ("overlapcomm", "overlap_comm"),
        ("overlap_commm", "overlap_comm"),
    ],
)
def test_name_one_edit_away_is_the_only_suggestion(typed: str, right: str) -> None:
    assert nearest(typed, ["overlap_comm", "overlap_step", "communication", "overlap"]) == [right]


@pytest.mark.parametrize("typed", ["", "x", "zzzzzz"])
def test_unrelated_name_gets_no_suggestion(typed: str) -> None:
    assert nearest(typed, ["overlap_comm", "stage"]) == []
