"""Whether a host of a hostfile can take part in a run, and what its ranks get: made by the agent on it."""

import hashlib
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from zpipe.compile.compiler import compile_plan
from zpipe.facts.hostfile import inclusion
from zpipe.launchers.deepspeed import HOSTFILE_NAME
from zpipe.launchers.meeting import interface, master_address
from zpipe.machine.disk import unwritable
from zpipe.machine.hardware import detect
from zpipe.machine.lacking import lacking
from zpipe.machine.network import listening, reach
from zpipe.machine.probes import missing_requirements
from zpipe.plans.agreement import disagreements
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.foreign_files import read_bytes
from zpipe.runfolder.plan_file import read_plan
from zpipe.running.start import wait_for_workers
from zpipe.schema.experiment import Experiment
from zpipe.supervise.host_messages import Hello
from zpipe.supervise.supervisor import launch_environment

_PLAN_SECONDS = 10.0
"""A network file system may show what was there before."""


def host_problems(hello: Hello) -> tuple[Plan | None, list[Problem]]:
    """The plan as this host compiles it, None if it cannot, and all reasons why the host cannot take part."""
    problems = list(_other_python(hello))
    folder = RunFolder(Path(hello.run_dir))
    if not _has_plan(folder, hello.plan_digest):
        reason = "this host does not see the plan of the run there"
        allowed = "a folder on a file system that all hosts share, under the same path"
        return None, [*problems, Problem("hydra.run.dir", hello.run_dir, reason, allowed)]
    try:
        first = read_plan(folder.path)
        here = _compiled(first, hello)
        wait_for_workers(folder.path, lambda line: None)
    except Refusal as refusal:
        return None, [*problems, *refusal.problems]
    problems += disagreements(first, here, "the plan was made with")
    problems += [*unwritable(folder.path), *missing_requirements(here, lambda line: None)]
    return here, problems


def meeting_problems(plan: Plan, what: Literal["listen", "reach"], listener: ExitStack) -> Iterator[Problem]:
    """Node 0 listens until `listener` is closed, and the others connect to it once."""
    host, port = str(master_address(plan)), plan.experiment.launcher.master_port
    fix = "launcher.master_addr=ADDRESS, or another launcher.master_port"
    try:
        if what == "listen":
            listener.enter_context(listening(host, port))
        else:
            reach(host, port)
    except OSError as error:
        does = "cannot listen there on" if what == "listen" else "node 0 cannot be reached at"
        reason = f"{does} port {port} of {host}: {error.strerror or error}"
        yield Problem("launcher.master_addr", host, reason, "an address of node 0 that all hosts reach", fix)


def environment_of_ranks(plan: Plan, hello: Hello, mark: str) -> dict[str, str]:
    """What is added to the environment that ssh gives them. The user's `launcher.env` wins."""
    return {
        **hello.inherited,
        **interface(plan),
        **plan.launch.env,
        **launch_environment(plan),
        "ZPIPE_LAUNCH_ID": mark,
    }


def _other_python(hello: Hello) -> Iterator[Problem]:
    own = platform.python_version()
    if own != hello.python:
        yield Problem("python", own, f"version {own}, and zpipe was started with {hello.python}")


def _has_plan(folder: RunFolder, digest: str) -> bool:
    until = time.monotonic() + _PLAN_SECONDS
    while True:
        try:
            if hashlib.sha256(read_bytes(folder.plan)).hexdigest() == digest:
                return True
        except OSError:
            if not folder.path.parent.is_dir():
                return False
        if time.monotonic() > until:
            return False
        time.sleep(0.2)


def _compiled(first: Plan, hello: Hello) -> Plan:
    """With the hosts that were chosen, from a file that this host sees. Raises Refusal."""
    launcher = first.experiment.launcher.model_copy(
        update={
            "hostfile": str(RunFolder(Path(first.run_dir)).launch / HOSTFILE_NAME),
            "include": inclusion(first.launch.hosts),
            "exclude": None,
            "env": hello.chosen,
        }
    )
    experiment: Experiment = first.experiment.model_copy(update={"launcher": launcher})
    here = detect()
    plan = compile_plan(experiment, Path(first.run_dir), first.command, here)
    refuse_if_any(lacking(experiment.hardware, here))
    return plan.model_copy(update={"experiment": first.experiment})
