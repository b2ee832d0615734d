"""Values that a shell would read as more than text, given to every launcher and run by a real shell.

The text is what `zpipe plan` prints. Only the interpreter, or sbatch and srun, are programs that note what
they were given.
"""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.planning import CPU, problems_of
from zpipe.cli.plan_single import plan_run
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.hydra_text import quoted
from zpipe.launchers import launcher_of, names
from zpipe.runfolder.plan_file import read_plan

HOSTILE = (
    "two words",
    "it's",
    'say "yes"',
    "a; touch ran",
    "$(touch ran)",
    "`touch ran`",
    "a && touch ran",
    "a | touch ran > ran",
    "a\ntouch ran\nb",
    "é ü 日本",
    "%j 100% %s",
    "-rf",
    "--help",
    "back\\slash\\",
    "* ? [a] {b,c} ~ # !",
    "$HOME $$ $1 $@",
    "a=b,c: d",
    "tab\there",
    "\x1b[31mred \r\x7f",
    "right\u202eleft zero\u200bwidth\u00a0",
)
KEYS = (
    "launcher.slurm.account",
    "launcher.slurm.partition",
    "launcher.slurm.mail_user",
    "launcher.slurm.time",
)
NOTED = """\
#!/bin/sh
printf '%s\\0' "$@" > "${0%/*}/${0##*/}.arguments"
env -0 > "${0%/*}/${0##*/}.environment"
"""


@dataclass(frozen=True)
class Program:
    """A program that notes its arguments and its environment."""

    path: Path

    def write(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(NOTED)
        self.path.chmod(0o755)

    @property
    def arguments(self) -> list[str]:
        return _texts(self.path.with_name(f"{self.path.name}.arguments"))

    @property
    def environment(self) -> dict[str, str]:
        texts = _texts(self.path.with_name(f"{self.path.name}.environment"))
        return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _texts(file: Path) -> list[str]:
    return file.read_bytes().decode().split("\0")[:-1]


@dataclass(frozen=True)
class Place:
    """A working folder, and beside it the programs."""

    work: Path
    programs: Path

    def program(self, name: str) -> Program:
        return Program(self.programs / name)

    def run_with(self, text: str) -> None:
        """The text as a script of the system's shell, which finds the programs first."""
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        given = {**os.environ, "PATH": path, "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n0"}
        subprocess.run(
            ["/bin/sh", "-c", text], cwd=self.work, env=given, check=True, stdin=subprocess.DEVNULL
        )

    def is_untouched(self, folder: str) -> bool:
        """Whether nothing but the run folder came into being."""
        return {each.name for each in self.work.iterdir()} <= {folder}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path / "work", tmp_path / "programs")
    place.work.mkdir()
    for name in ("python", "sbatch", "srun", "scontrol"):
        place.program(name).write()
    monkeypatch.setattr(sys, "executable", str(place.program("python").path))
    monkeypatch.chdir(place.work)
    return place


def overrides_with(launcher: str, value: str, folder: Path) -> list[str]:
    return [
        f"launcher.type={launcher}",
        f"hydra.run.dir={quoted(str(folder))}",
        f"launcher.env.TRITON_NOTE={quoted(value)}",
        f"tracking.run_name={quoted(value)}",
    ]


def printed_command(launcher: str, value: str, place: Place, capsys: pytest.CaptureFixture[str]) -> str:
    """What `zpipe plan` prints below `command`."""
    plan_run(overrides_with(launcher, value, place.work / value), "text", CPU)
    text = capsys.readouterr().out
    return text.rpartition("\ncommand\n")[2].rpartition("\nwritten\n")[0]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("launcher", [name for name in names() if not launcher_of(name).queues])
def test_a_shell_gives_the_launcher_every_value_as_it_is(
    launcher: str, value: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    command = printed_command(launcher, value, place, capsys)
    plan = read_plan(place.work / value)
    assert plan.launch.env["TRITON_NOTE"] == value
    assert plan.run_dir == str(place.work / value)
    if launcher_of(launcher).spawns:
        place.run_with(command)
        python = place.program("python")
        assert python.arguments == plan.launch.argv[1:]
        assert python.arguments[-1] == str(place.work / value)
        assert python.environment.items() >= plan.launch.env.items()
    assert place.is_untouched(value)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("launcher", [name for name in names() if launcher_of(name).queues])
def test_a_job_gives_zpipe_every_value_as_it_is(
    launcher: str, value: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    command = printed_command(launcher, value, place, capsys)
    folder = place.work / value
    plan = read_plan(folder)
    place.run_with(command)
    assert place.program("sbatch").arguments == plan.launch.argv[1:]
    place.run_with(shlex.join(["/bin/bash", str(folder / "launch" / "job.sh")]))
    given = place.program("srun").arguments
    overrides = given[given.index("zpipe") + 1 :]
    composed = compose_once(rewrite(overrides))
    assert composed.run_dir == folder
    assert composed.experiment.launcher.env == {"TRITON_NOTE": value}
    assert composed.experiment.tracking.run_name == value
    assert place.is_untouched(value)


@pytest.mark.parametrize("key", KEYS)
def test_an_option_of_a_job_is_a_word_or_refused_by_its_name(key: str) -> None:
    for value in HOSTILE:
        problems = problems_of("launcher=slurm", f"{key}={quoted(value)}")
        assert is_word(value) if problems == [] else [problem.key for problem in problems] == [key]


def is_word(value: str) -> bool:
    """Whether neither sbatch nor a shell reads it as more than one word."""
    return shlex.quote(value) == value
