"""Values that a shell would read as more than text, given to every launcher and run by a real shell.

The text is what `zpipe plan` prints. Only the interpreter, or sbatch and srun, are programs that note what
they were given.
"""

import shlex
from pathlib import Path

import pytest

from tests.support.hostile import HOSTILE, Place, folder_name, place_in, printed_command
from tests.support.planning import problems_of
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.hydra_text import quoted
from zpipe.launchers import launcher_of, names
from zpipe.problems import Refusal
from zpipe.runfolder.plan_file import read_plan

WORDS = ("account", "partition", "qos", "constraint", "time", "mem", "mail_type", "mail_user")
IN_A_JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n0"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_in(tmp_path, monkeypatch)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("launcher", names())
def test_a_shell_gives_the_launcher_every_value_as_it_is(
    launcher: str, value: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    command, folder = printed_command(launcher, value, place, capsys), folder_name(launcher, value)
    plan = read_plan(place.work / folder)
    assert plan.run_dir == str(place.work / folder)
    assert plan.launch.env["TRITON_NOTE"] == value
    if launcher_of(launcher).spawns:
        program = Path(plan.launch.argv[0]).name
        place.put(program)
        place.run(command)
        noted = place.noted(program)
        assert noted.arguments == plan.launch.argv[1:]
        assert launcher_of(launcher).queues or noted.environment.items() >= plan.launch.env.items()
    assert place.is_untouched(folder)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_job_of_slurm_gives_zpipe_every_value_as_it_is(
    value: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    printed_command("slurm", value, place, capsys)
    place.put("srun")
    folder = place.work / folder_name("slurm", value)
    place.run(shlex.join(["/bin/bash", str(folder / "launch" / "job.sh")]), IN_A_JOB)
    given = place.noted("srun").arguments
    composed = compose_once(rewrite(given[given.index("zpipe") + 1 :]))
    assert composed.run_dir == folder
    assert composed.experiment.launcher.env == {"TRITON_NOTE": value}
    assert composed.experiment.tracking.run_name == value
    assert place.is_untouched(folder.name)


def test_a_folder_into_which_slurm_cannot_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "back\\slash"
    with pytest.raises(Refusal, match="a folder with a backslash") as caught:
        compose_once(rewrite(["launcher=slurm", f"hydra.run.dir={quoted(str(folder))}"]))
    assert [problem.key for problem in caught.value.problems] == ["hydra.run.dir"]


@pytest.mark.parametrize("name", WORDS)
def test_an_option_of_a_job_is_one_word_or_refused_by_its_name(name: str) -> None:
    key = f"launcher.slurm.{name}"
    for value in HOSTILE:
        problems = problems_of("launcher=slurm", f"{key}={quoted(value)}")
        assert is_word(value) if problems == [] else [problem.key for problem in problems] == [key]


def is_word(value: str) -> bool:
    """Whether neither sbatch nor a shell reads it as more than one word."""
    return shlex.quote(value) == value
