"""Slurm: a job in which srun starts zpipe once on each node, as a user would by hand."""

import shlex
import sys
from collections.abc import Iterator
from typing import ClassVar

from zpipe.hydra_text import quoted
from zpipe.launchers.base import Job, Launcher, Rendered
from zpipe.machine.target import gpus_of_a_job
from zpipe.schema.hardware import HardwareSettings
from zpipe.schema.launcher import Launcher as Settings

SCRIPT_NAME = "job.sh"
_TEMPLATE = "job.sh.j2"
_WAIT_SECONDS = 180
OUTPUT_NAME = "slurm-%j.out"
"""In the run folder; %j is the number of the job."""


class Slurm(Launcher):
    """The command submits the job. In the job, launcher.type=torchrun starts the workers of each node."""

    several_nodes: ClassVar[bool] = True
    rendezvous: ClassVar[tuple[str, ...]] = ("static", "c10d")
    queues: ClassVar[bool] = True
    arrays: ClassVar[bool] = True

    def render(self, job: Job) -> Rendered:
        run = job.run.path
        argv = [
            "sbatch",
            "--parsable",
            f"--job-name=zpipe-{run.name}",
            f"--output={str(run).replace('%', '%%')}/{OUTPUT_NAME}",
            str(job.run.launch / SCRIPT_NAME),
        ]
        return Rendered(argv, files={SCRIPT_NAME: script(job)})


def script(job: Job) -> str:
    """The script of the job. Every value is quoted, or is one that needs no quotes."""
    return rendered(
        _TEMPLATE,
        options=list(options(job.settings, job.hardware)),
        setup=job.settings.slurm.setup,
        several=job.settings.nodes > 1,
        step=shlex.join(_step(job)),
        command=shlex.join([sys.executable, "-m", "zpipe", *job.command, *_in_the_job(job)]),
    )


def rendered(template: str, **values: object) -> str:
    """A shell script from a template of this package, whose values are quoted already."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zpipe.launchers", "."),
        autoescape=False,  # noqa: S701 - a shell script, quoted with shlex
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def options(launcher: Settings, hardware: HardwareSettings) -> Iterator[str]:
    """sbatch's options for the resources of a job, and for its signals."""
    settings, gpus = launcher.slurm, gpus_of_a_job(hardware, launcher)
    yield f"--nodes={launcher.nodes}"
    yield "--ntasks-per-node=1"
    for name in ("partition", "account", "qos", "constraint", "time", "mem", "mail_type", "mail_user"):
        value = getattr(settings, name)
        if value is not None:
            yield f"--{name.replace('_', '-')}={value}"
    if settings.cpus_per_task is not None:
        yield f"--cpus-per-task={settings.cpus_per_task}"
    if gpus is not None:
        yield f"--gres=gpu:{gpus}"
    if settings.signal_s:
        yield f"--signal=USR1@{settings.signal_s}"
    yield "--requeue" if settings.requeue else "--no-requeue"
    yield "--open-mode=append"
    yield from settings.extra


def _step(job: Job) -> Iterator[str]:
    """srun's options. A node that ends first leaves the others this many seconds for their own end."""
    yield f"--wait={_WAIT_SECONDS}"
    yield "--kill-on-bad-exit=0"
    if job.settings.slurm.cpus_per_task is not None:  # srun does not take it over from sbatch
        yield f"--cpus-per-task={job.settings.slurm.cpus_per_task}"


def _in_the_job(job: Job) -> Iterator[str]:
    """What the zpipe of a node is told in addition to what the user gave."""
    yield "launcher.type=torchrun"
    yield from job.limits_of_a_queue()
    yield f"hydra.run.dir={quoted(str(job.run.path))}"
    if job.settings.nodes > 1:
        yield "launcher.node_rank=${oc.env:SLURM_NODEID}"
        yield "launcher.master_addr=${oc.env:ZPIPE_MASTER_ADDR}"
        yield "launcher.master_port=${oc.env:ZPIPE_MASTER_PORT}"


LAUNCHER = Slurm
