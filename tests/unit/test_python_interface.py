"""zpipe.plan is the plan of the command line; what Hydra documents for the command line works."""

import subprocess
import sys
from pathlib import Path

import pytest

import zpipe
from tests.support.process import environment
from zpipe.cli.main import main


def test_plan_from_python_is_the_plan_of_the_command_line() -> None:
    plan = zpipe.plan("offload=cpu", stage=3, train={"max_steps": 7}, tracking={"run_name": "it's"})
    assert plan.ds_config["zero_optimization"]["stage"] == 3
    assert plan.experiment.train.max_steps == 7
    assert plan.experiment.tracking.run_name == "it's"
    assert zpipe.plan(stage=1).ds_config["zero_optimization"]["stage"] == 1
    assert not Path(plan.run_dir).exists()


def test_every_problem_is_raised_together() -> None:
    with pytest.raises(zpipe.Refusal) as caught:
        zpipe.plan("stage.no_such_key=1", precsion="bf16")
    assert {problem.key for problem in caught.value.problems} == {"stage.no_such_key", "precsion"}


def test_planning_from_python_imports_no_torch() -> None:
    code = "import sys, zpipe; zpipe.plan(stage=3); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


def test_garbage_collection_is_left_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gc

    assert gc.isenabled()
    assert main(["plan", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert gc.isenabled()


def own_option(folder: Path) -> Path:
    (folder / "offload").mkdir(parents=True)
    (folder / "offload" / "mine.yaml").write_text("offload_optimizer: {device: cpu}\n")
    return folder


@pytest.mark.parametrize("flag", ["--config-dir={}", "hydra.searchpath=[file://{}]"])
def test_own_options_are_found(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = flag.format(own_option(tmp_path / "own"))
    run_dir = f"hydra.run.dir={tmp_path / 'run'}"
    assert main(["plan", given, "offload=mine", run_dir, "--format", "json"]) == 0
    assert '"device": "cpu"' in capsys.readouterr().out
    assert main(["plan", "offload=mine", run_dir]) == 2


def test_own_folder_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config-dir", "/no/such/folder"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_recipe_with_a_sweep_plans_every_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "grid.yaml"
    recipe.write_text('hydra: {mode: MULTIRUN, sweeper: {params: {stage: "1,2", train.seed: "3,4"}}}\n')
    assert main(["plan", f"recipe={recipe}"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 5


@pytest.mark.parametrize(
    "params",
    [
        "launcher.env.LD_PRELOAD: 'a,b'",
        "launcher.env: '{LD_PRELOAD: a}'",
        "hydra/launcher: joblib",
        "model.trust_remote_code: 'true,false'",
        "train.seed: '${oc.env:HOME}'",
    ],
)
def test_sweep_of_a_recipe_obeys_its_rules(
    params: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "grid.yaml"
    recipe.write_text(f"hydra: {{mode: MULTIRUN, sweeper: {{params: {{{params}}}}}}}\n")
    assert main(["plan", f"recipe={recipe}"]) == 2
    assert str(recipe) in capsys.readouterr().err


def test_recipes_by_path_are_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, stage in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.yaml").write_text(f"defaults:\n  - override /stage: {stage}\n")
    given = ",".join(str(tmp_path / name / f"{name}.yaml") for name in ("one", "two"))
    assert main(["plan", "-m", f"recipe={given}"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 3


def test_recipe_with_a_data_path_needs_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "some words"}\n' * 50)
    (tmp_path / "mine.yaml").write_text(f"data: {{path: {tmp_path / 'text.jsonl'}}}\n")
    run_dir = f"hydra.run.dir={tmp_path / 'run'}"
    assert main(["plan", f"recipe={tmp_path / 'mine.yaml'}", run_dir, "--format", "json"]) == 0
    assert '"source": "files"' in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--cfg", "job", "-m"], ["--nope"], ["--info", "--cfg"]])
def test_flags_that_hydra_refuses_are_refused_without_a_traceback(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, "tracking.uri=postgresql://u:s3cretword@h/x"]) == 2
    assert "s3cretword" not in capsys.readouterr().err


def test_flags_may_stand_between_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stage=1", "--cfg", "job", "train.seed=7"]) == 0
    assert "seed: 7" in capsys.readouterr().out


def test_bash_completes_groups_and_options(tmp_path: Path) -> None:
    """In a real bash, with the script that `zpipe -sc install=bash` prints."""
    command = Path(sys.executable).parent / "zpipe"
    script = """
        PATH="$2:$PATH"; eval "$(zpipe -sc install=bash)"
        COMP_LINE="zpipe $1"; COMP_CWORD=1; COMP_POINT=${#COMP_LINE}
        hydra_bash_completion; echo "${COMPREPLY[@]}"
    """

    def completed(word: str) -> list[str]:
        argv = ["bash", "-c", script, "bash", word, str(command.parent)]
        ended = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()

    assert "stage=" in completed("sta")
    assert "offload=nvme" in completed("offload=nv")
