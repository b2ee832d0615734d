"""DeepSpeed's launcher: a runner that starts a watcher on each machine, which starts the ranks."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from zpipe.facts.hostfile import hostfile_text, inclusion
from zpipe.launchers.base import LOOPBACK, NO_FOREIGN_IMPORTS, Job, Launcher, Rendered, spawn
from zpipe.launchers.exports import exported, without_exports
from zpipe.launchers.meeting import ONE_JOB, interface
from zpipe.machine.ssh import OPTIONS
from zpipe.plans.plan import Host, Plan
from zpipe.runfolder.atomic import write_text
from zpipe.runfolder.folder import Attempt

if TYPE_CHECKING:
    import subprocess

_NO_FILE = "/dev/null"
"""Otherwise the runner reads /job/hostfile, if there is one."""
HOSTFILE_NAME = "hostfile"
REMOTE_WORKER = "zpipe.train.on_host"
"""The module of a worker that ssh has started, without zpipe's environment."""


class DeepSpeed(Launcher):
    """One machine, several that are started by hand, or the hosts of a hostfile.

    On one, the ranks meet in a file (zpipe/train/process_group.py), so that the port is not opened.
    """

    several_nodes: ClassVar[bool] = True
    reads_hostfiles: ClassVar[bool] = True

    def render(self, job: Job) -> Rendered:
        if job.hosts:
            return _over_ssh(job)
        return _by_hand(job) if job.settings.nodes > 1 else _alone(job)

    def start(
        self, plan: Plan, attempt: Attempt, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Starts the runner. Over ssh it gets no variable that it would write into a command line."""
        if not plan.launch.hosts:
            return super().start(plan, attempt, {**interface(plan), **environment})
        write_text(attempt.exports, exported({**plan.launch.env, **environment}))
        return spawn(plan.launch.argv, _runners(plan, attempt, environment), attempt.launcher_log, cwd="/")


def _alone(job: Job) -> Rendered:
    argv = [*_runner(_NO_FILE), _chosen_devices(job), *_worker(job, job.worker)]
    return Rendered(argv, {**LOOPBACK, **NO_FOREIGN_IMPORTS})


def _by_hand(job: Job) -> Rendered:
    """The runner wants a hostfile for its arithmetic alone: each machine starts its own ranks."""
    settings = job.settings
    slots = _own_slots(job)
    nodes = [Host(name=f"node-{number}", slots=slots) for number in range(settings.nodes)]
    argv = [
        *_runner(str(job.run.launch / HOSTFILE_NAME)),
        f"--include={inclusion(nodes)}",
        "--no_ssh",
        f"--node_rank={settings.node_rank}",
        f"--master_addr={settings.master_addr or 'HOST'}",
        f"--master_port={settings.master_port}",
        *_worker(job, job.worker),
    ]
    return Rendered(argv, {**NO_FOREIGN_IMPORTS, **ONE_JOB}, {HOSTFILE_NAME: hostfile_text(nodes)})


def _over_ssh(job: Job) -> Rendered:
    """zpipe has checked each host by then, so that the runner need not ask the first one."""
    settings, hosts = job.settings, list(job.hosts)
    argv = [
        *_runner(str(job.run.launch / HOSTFILE_NAME)),
        f"--include={inclusion(hosts)}",
        f"--launcher={settings.multinode_launcher}",
        "--force_multi",
        "--no_ssh_check",
        *([f"--ssh_port={settings.ssh_port}"] if settings.ssh_port is not None else []),
        f"--master_addr={settings.master_addr or hosts[0].name}",
        f"--master_port={settings.master_port}",
        *_worker(job, REMOTE_WORKER),
    ]
    meeting = ONE_JOB if len(hosts) > 1 else LOOPBACK
    return Rendered(argv, {**NO_FOREIGN_IMPORTS, **meeting}, {HOSTFILE_NAME: hostfile_text(hosts)})


def _runner(hostfile: str) -> list[str]:
    return [sys.executable, "-m", "deepspeed.launcher.runner", f"--hostfile={hostfile}"]


def _worker(job: Job, module: str) -> list[str]:
    logs = f"--enable_each_rank_log={job.attempt.logs}"
    return ["--no_local_rank", logs, "--module", module, str(job.run.path)]


def _chosen_devices(job: Job) -> str:
    """With --num_gpus the runner would take the first GPUs of the machine, whatever zpipe itself sees."""
    if job.device == "cpu" or job.visible_gpus is None:
        return f"--num_gpus={job.nproc_per_node}"
    return f"--include=localhost:{','.join(job.visible_gpus[: job.nproc_per_node])}"


def _own_slots(job: Job) -> list[int]:
    if job.device == "cpu" or job.visible_gpus is None:
        return list(range(job.nproc_per_node))
    return [int(name) for name in job.visible_gpus[: job.nproc_per_node]]


def _runners(plan: Plan, attempt: Attempt, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the runner. The ranks get theirs on their host (zpipe/machine/handover.py)."""
    chosen = {name: value for name, value in plan.launch.env.items() if name in ("PATH", "DS_ACCELERATOR")}
    appended = f"{os.environ.get('PDSH_SSH_ARGS_APPEND', '')} {' '.join(OPTIONS)}".strip()
    return {
        **without_exports(os.environ),
        **chosen,
        **environment,
        "PDSH_SSH_ARGS_APPEND": appended,
        "DS_ENV_FILE": str(attempt.exports),
    }


LAUNCHER = DeepSpeed
