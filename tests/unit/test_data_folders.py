"""A folder of data that also has runs, sweeps, MLflow's artifacts and models: their files are no data."""

from pathlib import Path

import pytest

from tests.support.planning import plan_of
from zpipe.data.folders import files_below
from zpipe.data.sources import local_source
from zpipe.schema.data import Data

TEXT = '{"text": "to learn from"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With two files of data, a run, a sweep, MLflow's store, a model and a hidden folder."""
    outputs = tmp_path / "outputs"
    run, sweep = outputs / "2026-11-27" / "one", outputs / "sweeps" / "two"
    for name in ("plan.json", "ds_config.json", "attempt-1/events.jsonl", "model/config.json"):
        written(run / name)
    for name in ("sweep.json", "ledger.jsonl", "0/events.jsonl"):
        written(sweep / name)
    written(outputs / "mlflow.db")
    written(outputs / "mlartifacts" / "1" / "rows.jsonl")
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        written(tmp_path / "exported" / name)
    for name in ("rows.jsonl", "more/rest.jsonl", ".cache/hidden.jsonl"):
        written(tmp_path / name)
    return tmp_path


def written(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(TEXT, encoding="utf-8")


def test_files_of_runs_sweeps_models_and_mlflow_are_no_data(folder: Path) -> None:
    source = local_source(Data(source="files", path=str(folder)))
    assert source is not None
    assert source.files == (folder / "more" / "rest.jsonl", folder / "rows.jsonl")
    outputs = folder / "outputs"
    assert source.other_folders == (
        folder / "exported",
        outputs / "2026-11-27" / "one",
        outputs / "mlartifacts",
        outputs / "sweeps" / "two",
    )


def test_plan_names_what_is_left_out(folder: Path) -> None:
    plan = plan_of("data=files", f"data.path={folder}")
    (notice,) = [each.text for each in plan.notices if "are left out" in each.text]
    assert str(folder / "outputs" / "2026-11-27" / "one") in notice


@pytest.mark.parametrize("name", ["plan.json", "sweep.json", "mlartifacts/rows.jsonl"])
def test_data_with_one_of_these_names_stays_data(name: str, tmp_path: Path) -> None:
    written(tmp_path / "more" / name)
    assert files_below(tmp_path) == ([tmp_path / "more" / name], [])
