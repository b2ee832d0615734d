"""A single run is decided once: the plan that was checked is the plan that runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import REPOSITORY, SMALL, Run, environment, zpipe
from tests.support.store import put_store

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def counted(
    tmp_path_factory: pytest.TempPathFactory, text_file: Path, empty_store: Path
) -> tuple[Run, list[tuple[str, Any]]]:
    """A finished run, and what its process counted (tests/support/counting)."""
    folder = put_store(empty_store, tmp_path_factory.mktemp("counted"))
    counts = folder / "counts.jsonl"
    path = f"{REPOSITORY / 'tests' / 'support' / 'counting'}:{environment()['PYTHONPATH']}"
    run = zpipe(
        folder,
        *SMALL,
        f"data.path={text_file}",
        "tracking.run_name=mine",
        env={"PYTHONPATH": path, "ZPIPE_COUNTS": str(counts)},
    )
    assert run.exit_code == 0, run.explain()
    return run, [tuple(json.loads(line)) for line in counts.read_text().splitlines()]


@pytest.mark.parametrize("step", ["composition", "compilation", "detection"])
def test_a_run_does_each_step_once(counted: tuple[Run, list[tuple[str, Any]]], step: str) -> None:
    assert [name for name, _ in counted[1]].count(step) == 1


def test_the_plan_checked_is_the_plan_run(counted: tuple[Run, list[tuple[str, Any]]]) -> None:
    run, counts = counted
    (checked,) = [plan for name, plan in counts if name == "compilation"]
    assert json.loads((run.folder / "plan.json").read_text()) == checked


def test_the_source_of_the_run_name_is_the_override(counted: tuple[Run, list[tuple[str, Any]]]) -> None:
    plan = json.loads((counted[0].folder / "plan.json").read_text())
    origins = plan["provenance"]["experiment"]["tracking.run_name"]
    assert origins[-1] == {"source": "tracking.run_name=mine", "value": "mine"}
