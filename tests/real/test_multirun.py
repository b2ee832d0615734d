"""A sweep: one parent run, a child for each point, and a point that fails takes no other along."""

import json
from pathlib import Path

import pytest

from tests.support.process import SMALL, Run, sweep
from tests.support.store import Store

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Run:
    """The user's own command over stages and buckets."""
    cwd = tmp_path_factory.mktemp("sweep")
    return sweep(
        cwd,
        *SMALL,
        "stage=2,3",
        "stage.reduce_bucket_size=5e7,2e8,5e8",
        "train.max_steps=2",
        f"data.path={text_file}",
    )


def test_six_points_finish_under_one_parent(buckets: Run) -> None:
    assert buckets.exit_code == 0, buckets.explain()
    runs = Store(buckets.folder.parent).runs()
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    seen = {(run.data.params["stage"], run.data.params["reduce_bucket_size"]) for run in children}
    assert seen == {(stage, bucket) for stage in "23" for bucket in ("50000000", "200000000", "500000000")}


def test_each_point_has_a_line_with_its_bucket_and_figures(buckets: Run) -> None:
    heading, *lines = buckets.stdout[buckets.stdout.rindex("  point") :].splitlines()
    assert heading.split()[1:3] == ["stage", "stage.reduce_bucket_size"]
    assert "tokens/s" in heading
    assert "host GiB" in heading
    rows = [line.split() for line in lines[:6]]
    assert [row[1] for row in rows] == ["2", "2", "2", "3", "3", "3"]
    assert [float(row[2]) for row in rows] == [5e7, 2e8, 5e8] * 2
    points = json.loads((buckets.folder / "points.json").read_text())
    assert len(points) == 6
    assert all(point["summary"]["tokens_per_sec"] > 0 for point in points)


def test_the_bucket_reaches_deepspeed(buckets: Run) -> None:
    sizes = [
        json.loads((buckets.folder / str(number) / "ds_config.json").read_text())["zero_optimization"][
            "reduce_bucket_size"
        ]
        for number in range(6)
    ]
    assert sizes == [50_000_000, 200_000_000, 500_000_000] * 2


def test_a_failing_point_does_not_take_the_others_along(text_file: Path, tmp_path: Path) -> None:
    """offload=cpu is refused at stage 2 and trains at stage 3."""
    run = sweep(tmp_path, *SMALL, "stage=2,3", "offload=cpu", "train.max_steps=2", f"data.path={text_file}")
    assert run.exit_code == 5, run.explain()
    points = json.loads((run.folder / "points.json").read_text())
    assert [point["ending"] for point in points] == ["refused", "finished"]
    assert run.stderr.startswith("Refused: 1 of 2 points")
    runs = Store(tmp_path).runs()
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]


def test_a_sweep_without_a_point_that_can_run_is_not_started(tmp_path: Path) -> None:
    run = sweep(tmp_path, *SMALL, "stage=1,2", "offload=cpu")
    assert run.exit_code == 2, run.explain()
    assert "Refused: 2 of 2 points" in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=submitit_local"],
        ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"],
    ],
    ids=["joblib", "submitit", "optuna"],
)
def test_hydras_launchers_and_sweepers_work(launcher: list[str], text_file: Path, tmp_path: Path) -> None:
    run = sweep(
        tmp_path,
        *SMALL,
        *launcher,
        "stage=choice(1,2)",
        "train.max_steps=2",
        f"data.path={text_file}",
    )
    assert run.exit_code == 0, run.explain()
    points = json.loads((run.folder / "points.json").read_text())
    assert len(points) == 2
    assert {point["ending"] for point in points} == {"finished"}
    assert len(Store(tmp_path).runs()) == 3
