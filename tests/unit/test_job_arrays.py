"""A sweep is planned as the tasks of one job array, or refused."""

from pathlib import Path

import pytest

from tests.support.planning import CPU
from zpipe.cli.plan_points import plan_points
from zpipe.compose.overrides import rewrite
from zpipe.compose.points import PlannedPoint, plan_sweep
from zpipe.launchers.slurm_array import array_argv, array_script
from zpipe.problems import Refusal
from zpipe.schema.experiment import Experiment
from zpipe.schema.launcher import Launcher
from zpipe.schema.slurm import Slurm

ON_SLURM = ("launcher=slurm", "launcher.device=cpu")


def planned(*overrides: str) -> list[PlannedPoint]:
    return list(plan_sweep(rewrite(list(overrides))))


def problems(*overrides: str) -> list[list[tuple[str, str]]]:
    return [[(problem.key, problem.fix) for problem in point.problems] for point in planned(*overrides)]


def test_every_point_of_a_sweep_on_slurm_has_a_plan() -> None:
    assert problems(*ON_SLURM, "stage=2,3", "launcher.nodes=2") == [[], []]


def test_points_that_need_other_resources_are_refused() -> None:
    first, second = planned(*ON_SLURM, "launcher.nodes=1,2", "launcher.slurm.time=10")
    assert first.problems == ()
    (problem,) = second.problems
    assert (problem.key, problem.value, problem.allowed) == ("launcher", "--nodes=2", "--nodes=1")


@pytest.mark.parametrize("launchers", ["torchrun,slurm", "slurm,torchrun"])
def test_a_sweep_does_not_choose_between_slurm_and_this_machine(launchers: str) -> None:
    found = problems(f"launcher={launchers}")
    assert sorted(found) == [[], [("launcher.type", "launcher=torchrun")]]


def test_several_nodes_without_a_queue_are_refused() -> None:
    found = problems("train.seed=1,2", "launcher.nodes=2", "launcher.master_addr=a")
    assert found == [[("launcher.nodes", "launcher=slurm")]] * 2


def test_hydras_parallel_launchers_are_refused_with_slurm() -> None:
    with pytest.raises(Refusal) as refusal:
        planned(*ON_SLURM, "train.seed=1,2", "hydra/launcher=joblib")
    assert [problem.key for problem in refusal.value.problems] == ["hydra/launcher"]


def test_the_array_has_the_numbers_of_the_points_and_quoted_paths() -> None:
    folders = {4: Path("/runs/it's $(here)/4"), 0: Path("/runs/a/0")}
    text = array_script(Experiment(launcher=Launcher(slurm=Slurm(partition="gpu"))), folders, None)
    assert "#SBATCH --partition=gpu" in text
    assert "0) exec bash /runs/a/0/launch/job.sh ;;" in text
    assert """4) exec bash '/runs/it'"'"'s $(here)/4/launch/job.sh' ;;""" in text
    assert "ZPIPE_PARENT_RUN" not in text


def test_array_parallelism_is_the_limit_of_the_array() -> None:
    assert "--array=0,4%2" in array_argv(Path("/runs/a/array-1.sh"), [0, 4], 2)
    assert "--array=0,4" in array_argv(Path("/runs/a/array-1.sh"), [0, 4], None)


def test_a_planned_sweep_shows_the_script_of_its_array_and_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = [*ON_SLURM, "train.seed=1,2", "launcher.array_parallelism=1", "hydra.sweep.dir=/runs/a"]
    assert plan_points(overrides, "text", CPU) == 0
    shown = capsys.readouterr().out
    assert "1) exec bash /runs/a/1/launch/job.sh ;;" in shown
    assert "sbatch --parsable --array=0,1%1 --job-name=zpipe-a" in shown
