"""The hostfile: what is in it, and what DeepSpeed's runner can do with it."""

import re
import sys
from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.launchers import launcher_of
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment

BACKENDS = {
    "pdsh": "",
    **dict.fromkeys(
        ("openmpi", "mpich", "impi", "mvapich"),
        "its ranks are processes of MPI, which DeepSpeed's watcher does not start and zpipe does not watch",
    ),
    "slurm": "a job of Slurm starts zpipe on each of its nodes: launcher=slurm launcher.nodes=N",
}
"""DeepSpeed's `--launcher`, each with the reason against it."""
_PLAIN = re.compile(r"[\w@+=:,./-]+")
"""What needs no quotes: the runner puts none around its words (deepspeed/launcher/multinode_runner.py)."""


def the_launcher_reads_hostfiles(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    settings = experiment.launcher
    try:
        reads = launcher_of(settings.type).reads_hostfiles
    except LookupError:
        return
    if settings.hostfile is not None and not reads:
        reason = f"launcher={settings.type} reads no hostfile"
        fix = either("launcher=deepspeed", "launcher.hostfile=null")
        yield Problem("launcher.hostfile", settings.hostfile, reason, "null", fix)
    for name in ("include", "exclude", "ssh_port"):
        value = getattr(settings, name)
        if value is not None and settings.hostfile is None:
            reason = "it is about the hosts of a hostfile, and there is none"
            fix = either(f"launcher.{name}=null")
            yield Problem(f"launcher.{name}", value, reason, "null", fix)


def the_backend_works(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    name = experiment.launcher.multinode_launcher
    reason = BACKENDS.get(name, "DeepSpeed's runner knows no such launcher")
    if reason:
        fix = either("launcher.multinode_launcher=pdsh")
        yield Problem("launcher.multinode_launcher", name, reason, "pdsh", fix)


def the_hostfile_can_be_used(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    yield from facts.hosts.problems


def nothing_contradicts_the_hostfile(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """It says how many machines and processes there are, and one zpipe starts all of them."""
    settings = experiment.launcher
    if settings.hostfile is None:
        return
    reason = "one zpipe starts the hosts of launcher.hostfile"
    for name, free in (("nodes", 1), ("node_rank", 0)):
        value = getattr(settings, name)
        if value != free:
            fix = either(f"launcher.{name}={free}", "launcher.hostfile=null")
            yield Problem(f"launcher.{name}", value, reason, str(free), fix)
    slots = facts.nproc_per_node
    if facts.hosts.hosts and settings.nproc_per_node not in (None, slots):
        reason = f"each host of launcher.hostfile has {slots} slots"
        fix = either("launcher.nproc_per_node=null", "launcher.include=HOST:SLOT,SLOT")
        yield Problem("launcher.nproc_per_node", settings.nproc_per_node, reason, f"null, {slots}", fix)
    if facts.device == "cuda" and facts.hardware.visible_gpus is not None:
        given = ",".join(facts.hardware.visible_gpus)
        reason = "the slots of a hostfile are the GPUs of each host, whatever zpipe itself sees"
        fix = either("launcher=torchrun launcher.hostfile=null")
        allowed = f"not set; launcher.include=HOST:{given} names GPUs"
        yield Problem("CUDA_VISIBLE_DEVICES", given, reason, allowed, fix)


def a_shell_changes_no_word_of_the_runner(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The runner passes its words to the shell of each host as they are."""
    if experiment.launcher.hostfile is None:
        return
    words = (
        ("hydra.run.dir", facts.run_dir, either("hydra.run.dir=/shared/runs/NAME")),
        ("launcher.master_addr", experiment.launcher.master_addr, either("launcher.master_addr=null")),
        ("python", sys.executable, either("launcher=torchrun launcher.hostfile=null")),
    )
    for key, value, fix in words:
        if value is not None and not _PLAIN.fullmatch(str(value)):
            reason = "DeepSpeed's runner passes it to the shell of each host without quotes"
            yield Problem(key, str(value), reason, "letters, digits and @ + = : , . / _ -", fix)


ERRORS = (
    the_launcher_reads_hostfiles,
    the_backend_works,
    the_hostfile_can_be_used,
    nothing_contradicts_the_hostfile,
    a_shell_changes_no_word_of_the_runner,
)
