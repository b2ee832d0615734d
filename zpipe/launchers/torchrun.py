"""PyTorch's launcher: an agent on each node starts the ranks, signals them together and keeps their logs."""

import subprocess
import sys
from collections.abc import Mapping
from typing import ClassVar

from zpipe.launchers.base import LOOPBACK, NO_FOREIGN_IMPORTS, WORKER, Job, Launcher, Rendered
from zpipe.launchers.meeting import ONE_JOB, interface
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import Attempt

OWN_RENDEZVOUS = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""The ranks meet in a file of their own (zpipe/train/process_group.py), not in the store of their agent."""


class Torchrun(Launcher):
    """On one node the rendezvous is a file: torch's TCP store would listen on every interface.

    Several nodes meet in that store, on node 0. Its values are texts and numbers, no pickles.
    """

    several_nodes: ClassVar[bool] = True

    def render(self, job: Job) -> Rendered:
        several = job.settings.nodes > 1
        argv = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nnodes={job.settings.nodes}",
            f"--nproc-per-node={job.nproc_per_node}",
            *(_static(job) if several else _in_a_file(job)),
            "--max-restarts=0",
            f"--log-dir={job.attempt.logs}",
            "--redirects=3",
            "-m",
            WORKER,
            str(job.run.path),
        ]
        meeting = ONE_JOB if several else {**LOOPBACK, **OWN_RENDEZVOUS}
        return Rendered(argv, {**NO_FOREIGN_IMPORTS, **meeting})

    def start(
        self, plan: Plan, attempt: Attempt, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Starts the agent. A rendezvous file of an earlier launch would keep it from starting the ranks."""
        attempt.rendezvous.unlink(missing_ok=True)
        return super().start(plan, attempt, {**interface(plan), **environment})


def _in_a_file(job: Job) -> list[str]:
    endpoint = f"--rdzv-endpoint={job.attempt.rendezvous}"
    return ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", endpoint]


def _static(job: Job) -> list[str]:
    settings = job.settings
    return [
        f"--node-rank={settings.node_rank}",
        f"--master-addr={settings.master_addr}",
        f"--master-port={settings.master_port}",
    ]


LAUNCHER = Torchrun
