"""zpipe in a real Jupyter kernel: the notebook of the documentation, refusals, interrupts, several runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.kernel import Kernel, kernel
from tests.support.process import REPOSITORY, SMALL, environment, processes_mentioning
from zpipe.runfolder.folder import RunFolder

pytestmark = pytest.mark.real

NOTEBOOK = REPOSITORY / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The code cells of the notebook, after a kernel has run them all."""
    notebook: Any = nbformat.reads(NOTEBOOK.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    folder = tmp_path_factory.mktemp("notebook")
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment())
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def data_of(cell: Any, kind: str) -> str:
    return "".join(output.data.get(kind, "") for output in cell.outputs if "data" in output)


def printed_by(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_the_notebook_shows_a_plan_a_run_its_loss_and_the_record(executed: list[Any]) -> None:
    _, plan, refusal, run, outcome, _, plot, runs = executed
    assert "offload: optimizer on cpu, parameters on cpu" in data_of(plan, "text/html")
    assert "try:     stage=3" in printed_by(refusal)
    assert "step 20/20" in printed_by(run)
    assert "<td" in data_of(outcome, "text/html") and ">finished<" in data_of(outcome, "text/html")
    assert "MLflow run" in data_of(outcome, "text/plain")
    assert len(data_of(plot, "image/png")) > 10_000
    assert "stage 2" in printed_by(runs) and "stage 3, offloaded" in printed_by(runs)


def test_a_run_in_the_kernel_prints_no_warnings_of_libraries(executed: list[Any]) -> None:
    assert not [cell.source for cell in executed if "Warning: " in printed_by(cell)]


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, Path]]:
    folder = tmp_path_factory.mktemp("kernel")
    with kernel(folder) as started:
        started.run(f"import os, sys, zpipe; small = {[*SMALL, 'tracking=none']!r}")
        started.run("before = dict(os.environ), list(sys.argv)")
        yield started, folder


def test_a_refusal_shows_every_problem_and_no_traceback(cells: tuple[Kernel, Path]) -> None:
    shown = cells[0].run("zpipe.run('stage.no_such_key=1', offload='nvme', stage=2, precsion='bf16')")
    assert shown.traceback.startswith("Refused: 2 problems in the input")
    assert "stage.no_such_key" in shown.traceback and "precsion" in shown.traceback
    assert "File" not in shown.traceback and "SystemExit" not in shown.error


@pytest.mark.parametrize("launcher", ["torchrun", "inprocess"])
def test_an_interrupted_cell_ends_its_run_in_order_and_the_kernel_goes_on(
    launcher: str, cells: tuple[Kernel, Path]
) -> None:
    started, folder = cells
    given = f"launcher={launcher!r}, train={{'max_steps': 100000}}"
    where = folder / f"interrupted-{launcher}"
    shown = started.run(
        f"zpipe.run(*small, 'hydra.run.dir={where}', {given})",
        interrupt_when=lambda printed: "step 3/100000" in printed,
    )
    assert shown.error == "Interrupted", shown.text + shown.traceback
    assert str(where) in shown.traceback and "File" not in shown.traceback
    assert json.loads(RunFolder(where).attempt.result.read_text())["ending"] == "interrupted"
    assert processes_mentioning(str(where)) == []
    assert started.run("1 + 1").data["text/plain"] == "2"


def test_runs_of_both_kinds_follow_each_other_and_leave_the_process_as_it_was(
    cells: tuple[Kernel, Path],
) -> None:
    """After the runs that were interrupted, in the same kernel."""
    started, _ = cells
    started.run("first = zpipe.run(*small, stage=2, launcher='torchrun')")
    started.run("second = zpipe.run(*small, stage=3, launcher='inprocess')")
    shown = started.run(
        "(first.ending, second.ending, len(first.series('loss')), len(second.series('loss')))"
    )
    assert shown.data.get("text/plain") == "('finished', 'finished', 4, 4)", shown.traceback
    changed = started.run(
        "sorted({k for k in os.environ if os.environ[k] != before[0].get(k)}), sys.argv == before[1]"
    )
    assert changed.data["text/plain"] == "([], True)"
    assert started.run("import logging; logging.getLogger().handlers").data["text/plain"] == "[]"
