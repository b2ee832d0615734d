"""Values that a shell would read as more than text, and programs that note what they are given."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.launchers import NEEDED
from tests.support.planning import CPU
from zpipe.cli.plan_single import plan_run
from zpipe.hydra_text import quoted
from zpipe.launchers import launcher_of

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
NOTED = """\
#!/bin/sh
printf '%s\\0' "$@" > "$0$SLURM_NODEID.arguments"
env -0 > "$0$SLURM_NODEID.environment"
"""


NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Noted:
    """What a program was given."""

    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Place:
    """A working folder, and beside it the programs."""

    work: Path
    programs: Path

    def put(self, name: str) -> Path:
        """A program of this name, which notes what it is given and does nothing else."""
        program = self.programs / name
        program.write_text(NOTED)
        program.chmod(0o755)
        return program

    def run(self, text: str, env: Mapping[str, str] = NOTHING) -> str:
        """The output of the text as a script of the system's shell, which finds the programs first."""
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-c", text],
            cwd=self.work,
            env={**os.environ, "PATH": path, **env},
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    def noted(self, name: str, node: str = "") -> Noted:
        """By the program of this name, on this node of a job."""
        variables = _texts(self.programs / f"{name}{node}.environment")
        pairs = (variable.partition("=")[::2] for variable in variables)
        return Noted(_texts(self.programs / f"{name}{node}.arguments"), dict(pairs))

    def is_untouched(self, folder: str) -> bool:
        """Whether nothing but the run folder came into being."""
        return {each.name for each in self.work.iterdir()} <= {folder}


def place_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The interpreter of a plan that is made now is such a program."""
    place = Place(folder / "work", folder / "programs")
    place.work.mkdir()
    place.programs.mkdir()
    monkeypatch.setattr(sys, "executable", str(place.put("python")))
    monkeypatch.chdir(place.work)
    return place


def folder_name(launcher: str, value: str) -> str:
    """A hostile one; Slurm takes no backslash, and the plan refuses it."""
    return value.replace("\\", "") if launcher == "slurm" else value


def printed_command(
    launcher: str, value: str, place: Place, capsys: pytest.CaptureFixture[str], *more: str
) -> str:
    """What `zpipe plan` prints below `command`, for a run that has this value wherever text is allowed."""
    folder = place.work / folder_name(launcher, value)
    overrides = [
        f"launcher.type={launcher}",
        f"hydra.run.dir={quoted(str(folder))}",
        f"launcher.env.TRITON_NOTE={quoted(value)}",
        f"tracking.run_name={quoted(value)}",
    ]
    if launcher_of(launcher).several_nodes and not launcher_of(launcher).queues:
        overrides += ["launcher.nodes=2", f"launcher.master_addr={quoted(value)}"]
    plan_run([*overrides, *NEEDED.get(launcher, ()), *more], "text", CPU)
    text = capsys.readouterr().out
    return text.rpartition("\ncommand\n")[2].rpartition("\nwritten\n")[0]


def _texts(file: Path) -> list[str]:
    return file.read_bytes().decode().split("\0")[:-1]
