"""A sweep composes every point exactly as if it were composed separately."""

import json
from itertools import product
from pathlib import Path
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.planning import CPU
from zpipe.cli.main import main
from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import Composed, compose_once
from zpipe.compose.overrides import rewrite
from zpipe.compose.points import plan_sweep
from zpipe.compose.sweep import Point, sweep_of
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal

SWEPT = (
    "stage=1,3",
    "offload=none,cpu_optimizer",
    "precision=fp32,bf16",
    "recipe=zero3_nvme,llama3_1b_zero2",
    "stage.reduce_bucket_size=1e6,5e7",
    "stage.leaf_module={names: [A]},{names: [B], classes: [C]}",
    "train.learning_rate=1e-4,0.001",
    "train.max_steps=3,${data.max_length}",
    "train.warmup_steps=0,many",
    "model.config.hidden_size=64,128",
    "model.config={a: 1},{b: {c: 2}}",
    "stage.leaf_module.classes=[A],[B,C]",
    "tracking.run_name='a, b','c'",
    "data.max_length=range(64,256,64)",
    "launcher.env.A='1','2'",
)


def outcome(composed: Composed, point: Point) -> str:
    """The plan as JSON text, or the problems."""
    try:
        plan = compile_plan(composed.experiment, point.folder, point.command, CPU, composed.provenance)
    except Refusal as refusal:
        return str(refusal)
    return json.dumps(plan.model_dump(mode="json"))


def results_of_sweep(overrides: list[str]) -> list[tuple[Point, str]]:
    results = []
    with sweep_of(rewrite(overrides)) as sweep:
        for point in sweep.points:
            try:
                results.append((point, outcome(sweep.compose(point), point)))
            except Refusal as refusal:
                results.append((point, str(refusal)))
    return results


def composed_separately(point: Point) -> str:
    try:
        return outcome(compose_once(list(point.overrides)), point)
    except Refusal as refusal:
        return str(refusal)


@given(st.lists(st.sampled_from(SWEPT), min_size=1, max_size=2, unique=True))
@settings(max_examples=4, deadline=None)
def test_every_point_equals_its_separate_composition(overrides: list[str]) -> None:
    for point, result in results_of_sweep(overrides):
        assert result == composed_separately(point), point


def test_grid_over_a_recipe_equals_separate_compositions() -> None:
    overrides = [
        "recipe=llama3_1b_zero2",
        "stage=1,2,3",
        "offload=none,cpu_optimizer",
        "stage.reduce_bucket_size=1e7,2e8",
        "train.learning_rate=1e-4,3e-4",
        "model.config.num_hidden_layers=2",
    ]
    results = results_of_sweep(overrides)
    assert len(results) == 24
    assert all(result.startswith("{") for _, result in results)
    for point, result in results[::3]:
        assert result == composed_separately(point)


def test_points_are_in_hydras_order() -> None:
    with sweep_of(rewrite(["stage=1,3", "train.seed=range(1,3)", "train.max_steps=5"])) as sweep:
        commands = [point.command for point in sweep.points]
        numbers = [point.number for point in sweep.points]
    expected = product(["stage=1", "stage=3"], ["train.seed=1", "train.seed=2"], ["train.max_steps=5"])
    assert commands == [list(each) for each in expected]
    assert numbers == [0, 1, 2, 3]


def test_points_do_not_affect_each_other() -> None:
    with sweep_of(rewrite(["model.config.hidden_size=64,128", "launcher.env.A=x,y"])) as sweep:
        first, *_, last = [sweep.compose(point) for point in sweep.points]
        again = sweep.compose(sweep.points[0])
    assert first == again
    assert first.experiment.model.config["hidden_size"] == 64
    assert last.experiment.launcher.env == {"A": "y"}


def test_hydra_settings_apply_to_points(tmp_path: Path) -> None:
    with sweep_of([f"hydra.sweep.dir={tmp_path}", *rewrite(["stage=1,2"])]) as sweep:
        assert [point.folder for point in sweep.points] == [tmp_path / "0", tmp_path / "1"]
        assert sweep.points[0].command == ["stage=1"]


def test_each_point_is_planned_or_refused() -> None:
    planned = list(plan_sweep(rewrite(["stage=2,3", "offload=cpu", "train.learning_rate=1e-4,-1"])))
    assert [each.plan is None for each in planned] == [True, True, False, True]
    keys = [[problem.key for problem in each.problems] for each in planned]
    assert keys == [["offload.offload_param.device"], ["train.learning_rate"], [], ["train.learning_rate"]]


@pytest.mark.parametrize(
    "override",
    ["train.learning_rate=interval(1e-5,1e-3)", "hydra/sweeper=optuna"],
    ids=["interval", "optuna"],
)
def test_sweep_without_a_list_of_points_is_refused(override: str) -> None:
    with pytest.raises(Refusal) as refused:
        list(plan_sweep(rewrite([override])))
    (problem,) = refused.value.problems
    assert isinstance(problem, Problem)


def test_the_plans_of_a_sweep_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 of them would take a gigabyte."""
    monkeypatch.chdir(tmp_path)
    seen: list[ref[Plan]] = []
    for each in plan_sweep(rewrite(["train.seed=range(0,8)"])):
        assert each.plan is not None
        seen.append(ref(each.plan))
        assert sum(plan() is not None for plan in seen) <= 2


def test_points_are_printed_as_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a\u2028b\x85c"
    assert main(["plan", "-m", "train.seed=1,2", f"tracking.run_name='{name}'", "--format", "json"]) == 0
    text = capsys.readouterr().out
    points = json.loads(text)
    assert [each["plan"]["experiment"]["tracking"]["run_name"] for each in points] == [name, name]
    assert text == json.dumps(points, indent=2, ensure_ascii=False) + "\n"
