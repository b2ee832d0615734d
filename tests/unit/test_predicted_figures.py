"""Predicted peaks have names of metrics, and are compared with the measured ones."""

from pathlib import Path

import pytest

from tests.support.plans import make_plan
from tests.support.predictions import prediction
from zpipe.plans.memory import MemoryPrediction
from zpipe.plans.plan import Launch
from zpipe.record.facts import params
from zpipe.runfolder.figures import figures_so_far, predicted_and_measured, predicted_figures
from zpipe.runfolder.progress import RunProgress
from zpipe.terminal.summary import summary_rows

MEASURED = {
    "memory/peak_allocated_gib": 28.0,
    "memory/peak_reserved_gib": 29.8,
    "memory/host_peak_gib": 6.5,
    "memory/host_peak_all_ranks_gib": 12.0,
}


def test_predicted_peaks_are_metrics_beside_the_measured_ones() -> None:
    assert predicted_figures(prediction()) == {
        "memory/predicted_allocated_gib": 28.5,
        "memory/predicted_reserved_gib": 30.1,
        "memory/predicted_host_gib": 12.3,
    }
    assert predicted_figures(prediction(None)) == {"memory/predicted_host_gib": 12.3}
    assert predicted_figures(None) == {}


@pytest.mark.parametrize(
    ("known", "measured", "nodes", "expected"),
    [
        (
            prediction(),
            MEASURED,
            1,
            "GPU predicted 30.1 GiB, measured 29.8 (+1.0%); host predicted 12.3 GiB, measured 12.0 (+2.5%)",
        ),
        (
            prediction(),
            {**MEASURED, "memory/host_peak_all_ranks_gib": 24.0},
            2,
            "GPU predicted 30.1 GiB, measured 29.8 (+1.0%); host predicted 12.3 GiB, measured 12.0 (+2.5%)",
        ),
        (
            prediction(None, ranks=1),
            {"memory/host_peak_gib": 7.0},
            1,
            "host predicted 6.3 GiB, measured 7.0 (-10.0%)",
        ),
        (None, MEASURED, 1, ""),
        (prediction(), {}, 1, ""),
    ],
)
def test_summary_of_a_run_holds_the_prediction_against_the_truth(
    known: MemoryPrediction | None, measured: dict[str, float], nodes: int, expected: str, tmp_path: Path
) -> None:
    launch = Launch(
        launcher="torchrun",
        device="cuda",
        nproc_per_node=2,
        world_size=2 * nodes,
        nodes=nodes,
        argv=[],
        env={},
    )
    plan = make_plan(tmp_path / "run", launch=launch)
    values = {**predicted_figures(known), **measured}
    assert summary_rows(plan, values, RunProgress(), None)["memory"] == expected


def test_a_peak_of_zero_is_not_compared() -> None:
    values = {**predicted_figures(prediction()), "memory/peak_reserved_gib": 0.0}
    assert predicted_and_measured(values) == {}


def test_predicted_peaks_are_parameters_of_the_run(tmp_path: Path) -> None:
    with_prediction = params(make_plan(tmp_path / "a", memory=prediction()))
    assert with_prediction["predicted_reserved_gib"] == "30.1"
    assert not any(name.startswith("predicted") for name in params(make_plan(tmp_path / "b")))


def test_run_that_did_not_finish_has_the_figures_that_it_logged_last() -> None:
    logged = {
        "loss": 2.5,
        "eval_loss": 3.0,
        "learning_rate": 1e-5,
        "throughput/tokens_per_sec": 700.0,
        "memory/host_peak_gib": 1.1,
    }
    found = figures_so_far(logged, prediction())
    assert found.items() >= predicted_figures(prediction()).items()
    assert {name: value for name, value in found.items() if "predicted" not in name} == {
        "final_loss": 2.5,
        "eval_loss": 3.0,
        "tokens_per_sec": 700.0,
        "memory/host_peak_gib": 1.1,
    }
    assert figures_so_far({"learning_rate": 1e-5}, prediction()) == {}
