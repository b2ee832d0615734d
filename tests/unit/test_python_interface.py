"""zpipe.plan is the plan of the command line; what Hydra documents for the command line works."""

import io
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

import zpipe
from tests.support.planning import plan_of
from tests.support.plans import begin_attempt, run_in
from tests.support.process import environment
from zpipe.api.errors import Interrupted, RefusedInput
from zpipe.api.shown import ShownOutcome
from zpipe.cli.main import main
from zpipe.problems import Problem
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import write_plan


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


TEXTS = st.text(st.sampled_from("ab'\"\\\\$$${{}}[],=~: \n\té<&"), max_size=12)


@given(text=TEXTS)
@example(text="${oc.env:HOME}")
@example(text="\\\\${x}\\")
@example(text="null")
@example(text="3")
@settings(max_examples=25, deadline=None)
def test_texts_arrive_as_they_are(text: str) -> None:
    plan = zpipe.plan(tracking={"run_name": text, "tags": {"note": text}}, launcher={"env": {"NOTE": text}})
    tracking = plan.experiment.tracking
    assert (tracking.run_name, tracking.tags["note"], plan.launch.env["NOTE"]) == (text, text, text)


def test_values_of_python_types_arrive(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("some words\n" * 500)
    plan = zpipe.plan(
        offload=None,
        train={"max_steps": np.int64(7), "learning_rate": np.float64(0.5), "max_grad_norm": 2},
        profiler={"wall_clock_breakdown": True},
        launcher={"slurm": {"extra": ["--exclude=n[3-5]", "--comment=a,b"]}},
        batch={"train_batch_size": None},
        data={"path": tmp_path / "train.txt"},
    )
    experiment = plan.experiment
    assert (experiment.train.max_steps, experiment.train.learning_rate) == (7, 0.5)
    assert experiment.launcher.slurm.extra == ["--exclude=n[3-5]", "--comment=a,b"]
    assert experiment.profiler.wall_clock_breakdown is True
    assert experiment.data.path == str(tmp_path / "train.txt")
    assert zpipe.plan(launcher="inprocess").launch.launcher == "inprocess"


class _Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE_NAME = "<script>alert(1)</script><img src=x onerror=y> [bold]b[/bold] \x1b[2J &amp;"


def test_a_name_becomes_neither_markup_nor_a_control_sequence() -> None:
    plan = zpipe.plan(tracking={"run_name": HOSTILE_NAME})
    shown = _Elements(plan._repr_html_())
    assert shown.names <= {"div", "table", "tr", "th", "td", "details", "summary", "pre"}
    assert HOSTILE_NAME.replace("\x1b", " ") in shown.text
    out = io.StringIO()
    Console(file=out, width=300).print(plan)
    for text in (out.getvalue(), repr(plan), str(plan)):
        assert HOSTILE_NAME.replace("\x1b", " ") in text


def test_a_plan_shows_no_secret_that_it_holds() -> None:
    env = {"MY_TOKEN": "s3cretvalue"}
    plan = zpipe.plan(tracking={"uri": "postgresql://u:s3cretword@localhost/x"}, launcher={"env": env})
    assert env.items() <= plan.launch.env.items()
    out = io.StringIO()
    Console(file=out, width=300).print(plan)
    shown = plan._repr_html_() + repr(plan) + str(plan) + out.getvalue() + str(list(plan.__repr_args__()))
    assert "s3cret" not in shown


def test_a_refusal_shows_every_problem_without_the_secrets_that_were_typed() -> None:
    with pytest.raises(zpipe.Refusal) as caught:
        zpipe.plan("stage.overlap=1", **{"tracking.api_token": "s3cretword"})
    assert isinstance(caught.value, RefusedInput)
    lines = "\n".join(caught.value._render_traceback_())
    assert "2 problems" in lines and "stage.overlap=1" in lines and "tracking.api_token=***" in lines
    assert "s3cretword" not in lines + str(caught.value)


def test_an_outcome_shows_what_is_in_its_folder(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    outcome = ShownOutcome.of(Outcome(ending="failed", reason="<b>", run_dir=str(tmp_path / "run")))
    assert "&lt;b&gt;" in outcome._repr_html_() and str(tmp_path / "run") in repr(outcome)
    gone = ShownOutcome.of(Outcome(ending="failed", run_dir=str(tmp_path / "gone")))
    assert "failed" in repr(gone) and gone.series("loss") == []


def test_problems_of_a_refused_run_are_kept_for_the_caller() -> None:
    problems = [Problem("data.path", "x", "no such file"), Problem("stage", 9, "unknown")]
    outcome = ShownOutcome.of(Outcome(ending="refused", run_dir="/runs/a").with_problems(problems))
    assert list(outcome.problems) == problems
    assert "problems" not in outcome.model_dump()


def test_an_interruption_is_an_interrupt_with_the_outcome() -> None:
    outcome = ShownOutcome.of(Outcome(ending="interrupted", reason="SIGINT", run_dir="/runs/a"))
    assert isinstance(Interrupted(outcome), KeyboardInterrupt)
    assert "interrupted" in "".join(Interrupted(outcome)._render_traceback_())


def test_a_run_folder_is_resumed_with_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    write_plan(zpipe.plan(stage=1, **{"hydra.run.dir": folder}))
    begin_attempt(folder)
    resumed = zpipe.plan(resume=folder)
    assert (resumed.run_dir, resumed.experiment.stage.stage) == (str(folder), 1)


def test_importing_zpipe_imports_none_of_what_it_uses() -> None:
    code = "import sys, zpipe; sys.exit(bool({'torch', 'hydra', 'pydantic', 'rich'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


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


@pytest.mark.parametrize("typed", [{"stage": 3}, ["stage=3"], None, 3])
def test_overrides_that_are_not_strings_are_refused(typed: Any) -> None:
    with pytest.raises(RefusedInput, match="is not a string"):
        zpipe.plan(typed)


def test_plan_refuses_what_a_run_of_the_folder_would_refuse(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="not a checkpoint"):
        zpipe.plan(resume=str(tmp_path / "nothing"))
    plan = plan_of("model=tiny", "train.max_steps=20", run_dir=tmp_path / "run")
    write_plan(plan)
    begin_attempt(tmp_path / "run")
    with pytest.raises(RefusedInput, match=r"train\.max_steps"):
        zpipe.plan(resume=str(tmp_path / "run"), train={"max_steps": 7})
