"""Sequences held out for evaluation."""

import datasets
import pytest

from zpipe.problems import Refusal
from zpipe.schema.surroundings import Data
from zpipe.train.data import split


def sequences(count: int) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": [[number] for number in range(count)]})


def test_the_seed_decides_which_sequences_are_held_out() -> None:
    data = Data(eval_fraction=0.1)
    first, same, other = (split(sequences(100), data, seed).held_out[:] for seed in (7, 7, 8))
    assert first == same != other


def test_every_sequence_is_in_one_part() -> None:
    parts = split(sequences(100), Data(eval_fraction=0.1), 7)
    assert len(parts.held_out) == 10
    both = [*parts.train["input_ids"], *parts.held_out["input_ids"]]
    assert sorted(both) == [[number] for number in range(100)]


def test_a_tiny_fraction_holds_out_one_sequence() -> None:
    assert len(split(sequences(3), Data(eval_fraction=0.001), 0).held_out) == 1


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(Refusal, match=r"data\.eval_fraction"):
        split(sequences(1), Data(eval_fraction=0.5), 0)
