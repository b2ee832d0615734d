"""The report of a sweep shows every point, marks the best ones, and executes nothing."""

import io
import json
import math
from pathlib import Path

import pytest

from zpipe.sweep.definition import Definition, write_definition
from zpipe.sweep.ledger import Attempt
from zpipe.sweep.report import as_row, write_report
from zpipe.sweep.results import SweepResults, collect_results
from zpipe.terminal.sweep_table import print_sweep
from zpipe.terminal.units import as_written

SPEEDS = {("2", "5e7"): 100.0, ("2", "5e8"): 90.0, ("3", "5e7"): 60.0}
MEMORY = {("2", "5e7"): 30.0, ("2", "5e8"): 34.0, ("3", "5e7"): 20.0}


def point(number: int, stage: str, bucket: str) -> Attempt:
    overrides = [f"stage={stage}", f"stage.reduce_bucket_size={float(bucket)}", "model=tiny"]
    if (stage, bucket) not in SPEEDS:
        reason = "tried to allocate <script>alert(1)</script>"
        return Attempt(
            folder=str(number), overrides=overrides, session=0, ending="gpu_out_of_memory", reason=reason
        )
    summary = {
        "tokens_per_sec": SPEEDS[stage, bucket],
        "memory/peak_reserved_gib": MEMORY[stage, bucket],
        "train_loss": math.nan if stage == "3" else 2.5,
    }
    return Attempt(folder=str(number), overrides=overrides, session=0, ending="finished", summary=summary)


@pytest.fixture
def points() -> list[Attempt]:
    pairs = [(stage, bucket) for stage in "23" for bucket in ("5e7", "5e8")]
    return [point(number, stage, bucket) for number, (stage, bucket) in enumerate(pairs)]


@pytest.fixture
def results(points: list[Attempt]) -> SweepResults:
    return collect_results(points)


def test_groups_are_colors_and_numbers_are_axes(results: SweepResults) -> None:
    assert results.categorical == ["stage"]
    assert results.numeric == ["stage.reduce_bucket_size"]
    assert results.memory_of == "GPU"


def test_pareto_front_has_points_that_no_other_beats_in_both(results: SweepResults) -> None:
    assert [each.name for each in results.pareto_front()] == ["2", "0"]


def test_loss_that_is_not_finite_is_left_out(results: SweepResults) -> None:
    assert [each.loss for each in results.points] == [2.5, 2.5, None, None]


def test_page_has_every_point_and_executes_nothing(points: list[Attempt], tmp_path: Path) -> None:
    arguments = ["-m", "stage=2,3", "model=tiny"]
    write_definition(
        tmp_path, Definition(arguments=arguments, cwd="/", swept=["stage"], uri=None, experiment="zpipe")
    )
    files = write_report(tmp_path, points)
    assert {file.name for file in files} == {
        "points.json",
        "sweep_report.html",
        "sweep_pareto.png",
        "sweep_stage.reduce_bucket_size.png",
    }
    page = (tmp_path / "sweep_report.html").read_text()
    assert "zpipe -m stage=2,3 model=tiny" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/png;base64,") == 2
    assert page.count("<tr>") == 1 + 4
    assert "GPU out of memory" in page
    assert "zpipe sweep resume" not in page  # running out of memory is a result
    assert len(json.loads((tmp_path / "points.json").read_text())) == 4


def test_plots_are_png_files_of_a_readable_size(points: list[Attempt], tmp_path: Path) -> None:
    plots = [file for file in write_report(tmp_path, points) if file.suffix == ".png"]
    for plot in plots:
        head = plot.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert int.from_bytes(head[16:20], "big") > 1000


@pytest.mark.parametrize("count", [0, 1])
def test_sweep_with_at_most_one_point_has_a_report(count: int, points: list[Attempt], tmp_path: Path) -> None:
    names = {file.name for file in write_report(tmp_path, points[3:][:count])}
    assert names == ({"points.json", "sweep_report.html"} if count else {"points.json"})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("50000000.0", "5e7"),
        ("100000.0", "1e5"),
        ("150000000", "1.5e8"),
        ("123456", "123456"),
        ("1234567890123", "1234567890123"),
        ("2", "2"),
        ("0.001", "0.001"),
        ("cpu", "cpu"),
        ("nan", "nan"),
    ],
)
def test_values_are_shown_in_short_notation(given: str, shown: str) -> None:
    assert as_written(given) == shown


@pytest.mark.parametrize(
    ("evaluated", "heading", "loss"),
    [((True, True), "eval loss", 1.5), ((True, False), "mean train loss", 2.5)],
)
def test_one_heading_means_one_loss(
    evaluated: tuple[bool, bool], heading: str, loss: float, tmp_path: Path
) -> None:
    """Of which the table and the page show the same figures."""
    first = {"train_loss": 2.5, "memory/host_peak_gib": 1.0, "memory/host_peak_all_ranks_gib": 2.0}
    summaries = [{**first, **({"eval_loss": 1.5} if each else {})} for each in evaluated]
    points = [
        Attempt(folder=str(n), overrides=[f"stage={n}"], session=0, ending="finished", summary=each)
        for n, each in enumerate(summaries)
    ]
    results = collect_results(points)
    assert (results.loss_heading, [each.loss for each in results.points]) == (heading, [loss, loss])
    assert [each.memory for each in results.points] == [2.0, 2.0]
    out = io.StringIO()
    print_sweep([as_row(tmp_path, each) for each in points], out)
    lines = [line for line in out.getvalue().splitlines() if line.strip()]
    assert heading in lines[0]
    for line in lines[1:3]:
        assert f"{loss:.4f}" in line
        assert "2.00" in line
