"""Sequences held out for evaluation."""

import datasets
import pytest

from zpipe.problems import Refusal
from zpipe.schema.data import Data
from zpipe.train.data import split


def sequences(count: int) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": [[number] for number in range(count)]})


def held_out(count: int, data: Data, seed: int = 7) -> list[int]:
    """The numbers of the sequences that are held out."""
    _, part = split(sequences(count), data, seed)
    assert part is not None
    return [number for (number,) in part["input_ids"]]


def test_the_seed_decides_which_sequences_are_held_out() -> None:
    data = Data(eval_fraction=0.1)
    first, same, other = (held_out(100, data, seed) for seed in (7, 7, 8))
    assert first == same != other


def test_every_sequence_is_in_one_part() -> None:
    data = Data(eval_fraction=0.1)
    held = held_out(100, data)
    assert len(held) == 10
    trained = [number for (number,) in split(sequences(100), data, 7)[0]["input_ids"]]
    assert sorted([*trained, *held]) == list(range(100))


def test_a_tiny_fraction_holds_out_one_sequence() -> None:
    assert len(held_out(3, Data(eval_fraction=0.001))) == 1


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(Refusal, match=r"data\.eval_fraction"):
        split(sequences(1), Data(eval_fraction=0.5), 0)
