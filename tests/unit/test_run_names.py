"""A run without a name of its own gets one that tells it apart."""

import pytest

from tests.support.planning import plan_of
from zpipe.record.facts import run_name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "zero2 fp32"),
        (["stage=3", "offload=cpu", "precision=bf16"], "zero3 opt-cpu param-cpu bf16"),
        (["stage.reduce_bucket_size=5e7"], "zero2 fp32 reduce_bucket_size=5e7"),
        (["train.learning_rate=1e-4", "launcher.env.A=b"], "zero2 fp32 learning_rate=1e-4"),
        (["model.name_or_path=org/unseen"], "zero2 fp32"),
        (["tracking.run_name=mine", "train.seed=1"], "mine"),
    ],
)
def test_the_name_has_what_differs(overrides: list[str], name: str) -> None:
    assert run_name(plan_of(*overrides)) == name
