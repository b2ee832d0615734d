"""The launcher: renders a job to files, a command line and an environment, and starts it."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from zpipe.machine.search_path import reachable_path
from zpipe.plans.plan import Host, Plan
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.schema.hardware import HardwareSettings
from zpipe.schema.launcher import Launcher as Settings

if TYPE_CHECKING:
    import subprocess

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Keeps the connections between the ranks on this machine."""
NO_FOREIGN_IMPORTS = {"PYTHONSAFEPATH": "1"}
"""Files in the working folder must not replace the packages of the workers."""

WORKER = "zpipe.train"
"""The module of a worker; its argument is the run folder."""


# Slurm sends the signal before a time limit to every process of a job: it would kill an agent with its ranks.
_DEAF = ("/bin/sh", "-c", 'trap "" USR1 USR2; exec "$@"', "sh")
"""Runs a command that ignores these signals. A worker sets its own handlers (zpipe/train/signals.py)."""


@dataclass(frozen=True)
class Settled:
    """What composes the same experiment on a machine that has none of the user's files."""

    recipe: str = ""
    """A recipe, as YAML."""
    overrides: tuple[str, ...] = ()
    """What a recipe may not set, and what it cannot remove."""


NOTHING_SETTLED = Settled()
"""For launchers whose jobs compose nothing."""


@dataclass(frozen=True)
class Job:
    """The workers to start: everything that a launcher may render."""

    run: RunFolder
    attempt: Attempt
    settings: Settings
    device: Literal["cuda", "cpu"]
    nproc_per_node: int
    command: tuple[str, ...] = ()
    """The overrides as the user typed them."""
    visible_gpus: tuple[str, ...] | None = None
    """CUDA_VISIBLE_DEVICES of zpipe itself; None if it is not set."""
    hosts: tuple[Host, ...] = ()
    """Of the hostfile, if there is one."""
    settled: Settled = NOTHING_SETTLED
    hardware: HardwareSettings = field(default_factory=HardwareSettings)
    """What is described of the machine."""
    worker: str = WORKER
    """The module that each process runs."""

    def limits_of_a_queue(self) -> Iterator[str]:
        """Overrides for a node of a job: it has the host memory and the cores that the queue gives to it."""
        for name in ("host_memory_gib", "cores"):
            if getattr(self.hardware, name) is not None:
                yield f"hardware.{name}=null"


@dataclass(frozen=True)
class Rendered:
    """What starts the job."""

    argv: list[str]
    """Empty for a launcher that does not spawn."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that every worker gets."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts by their names in the folder `launch` of the run."""


class Launcher(ABC):
    """Rendering is pure: the same job gives the same command on every machine, and nothing is written."""

    spawns: ClassVar[bool] = True
    """Whether the workers are processes of their own; otherwise `run_here` runs the only one."""
    most_processes: ClassVar[int | None] = None
    """Processes that it can start; None is any number."""
    several_nodes: ClassVar[bool] = False
    """Whether it starts the workers of several machines together."""
    reads_hostfiles: ClassVar[bool] = False
    """Whether it starts the workers of the hosts in a hostfile, over ssh."""
    rendezvous: ClassVar[tuple[str, ...]] = ("static",)
    """Values of launcher.rdzv_backend with which it works on several machines."""
    queues: ClassVar[bool] = False
    """Whether it submits the run to a queue, whose job tells the zpipe of each node where node 0 is."""
    arrays: ClassVar[bool] = False
    """Whether the points of a sweep are the tasks of one job of its queue."""

    @abstractmethod
    def render(self, job: Job) -> Rendered:
        """The command line that starts every worker, and the files that it reads."""

    def start(
        self, plan: Plan, attempt: Attempt, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Starts the command in its own session, with its output in the launcher's log."""
        given = {**os.environ, **plan.launch.env, **environment}
        return spawn(plan.launch.argv, given, attempt.launcher_log)

    def run_here(self, plan: Plan) -> int:
        """Runs the only worker in this process and returns its exit code."""
        raise NotImplementedError(f"{type(self).__name__} spawns its workers")


def spawn(
    argv: Sequence[str], environment: Mapping[str, str], log: Path, cwd: str | None = None
) -> "subprocess.Popen[bytes]":
    """Starts a command in its own session, with its output in a file."""
    import subprocess  # planning starts nothing

    with log.open("wb") as output:
        return subprocess.Popen(
            [*_DEAF, *argv],
            env={**environment, **reachable_path(environment)},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
