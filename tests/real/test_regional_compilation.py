"""Layers that are compiled one by one train the same model, also with recomputed activations."""

from pathlib import Path

import pytest

from tests.support.in_turn import train_in_turn
from tests.support.process import SMALL, Run

pytestmark = pytest.mark.real

REGIONAL = {
    "stage-2": ["stage=2", "train.gradient_checkpointing=true"],
    "stage-3": ["stage=3"],
}


@pytest.fixture(scope="module")
def runs(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run without compilation, and two whose layers are compiled; in one process, by name."""
    common = [*SMALL, "tracking=none", "train.eval_strategy=no", f"data.path={text_file}"]
    cases = {name: [*common, "compile=regional", *overrides] for name, overrides in REGIONAL.items()}
    return train_in_turn(tmp_path_factory.mktemp("regional"), {"eager": [*common, "stage=2"], **cases})


@pytest.mark.parametrize("name", REGIONAL)
def test_compiled_layers_train_the_same_model(name: str, runs: dict[str, Run]) -> None:
    """The worker ends a run whose layers are not compiled: the engine then differs from the plan."""
    run, eager = runs[name], runs["eager"]
    assert (run.exit_code, eager.exit_code) == (0, 0), run.explain()
    assert [event for event in run.events if event["event"] == "difference"] == []
    for figure in ("loss", "grad_norm"):
        values = [value for _, value in run.series(figure)]
        assert values == pytest.approx([value for _, value in eager.series(figure)], rel=1e-3)
        assert len(values) == 4
