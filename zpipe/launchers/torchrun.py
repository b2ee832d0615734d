"""PyTorch's launcher: an agent on each node starts the ranks, signals them together and keeps their logs."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import ClassVar

from zpipe.launchers.base import LOOPBACK, NO_FOREIGN_IMPORTS, Job, Launcher, Rendered
from zpipe.launchers.meeting import ONE_JOB, interface
from zpipe.machine.network import address_towards
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import Attempt
from zpipe.train.ranks import NODE_RANK

OWN_RENDEZVOUS = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""The ranks meet in a file of their own (zpipe/train/process_group.py), not in the store of their agent."""

_LOCAL_ADDRESS = "PET_LOCAL_ADDR"


class Torchrun(Launcher):
    """On one node the rendezvous is a file: torch's TCP store would listen on every interface.

    Several nodes meet in that store, on node 0. Its values are texts and numbers; with c10d also a pickle.
    """

    several_nodes: ClassVar[bool] = True
    rendezvous: ClassVar[tuple[str, ...]] = ("static", "c10d")

    def render(self, job: Job) -> Rendered:
        several = job.settings.nodes > 1
        argv = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nnodes={job.settings.nodes}",
            f"--nproc-per-node={job.nproc_per_node}",
            *(_among_nodes(job) if several else _in_a_file(job)),
            "--max-restarts=0",
            f"--log-dir={job.attempt.logs}",
            "--redirects=3",
            "-m",
            job.worker,
            str(job.run.path),
        ]
        meeting = _numbered(job) if several else {**LOOPBACK, **OWN_RENDEZVOUS}
        return Rendered(argv, {**NO_FOREIGN_IMPORTS, **meeting})

    def start(
        self, plan: Plan, attempt: Attempt, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Starts the agent. A rendezvous file of an earlier launch would keep it from starting the ranks."""
        attempt.rendezvous.unlink(missing_ok=True)
        return super().start(plan, attempt, {**interface(plan), **_own_address(plan), **environment})


def _in_a_file(job: Job) -> list[str]:
    endpoint = f"--rdzv-endpoint={job.attempt.rendezvous}"
    return ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", endpoint]


def _among_nodes(job: Job) -> list[str]:
    settings = job.settings
    if settings.rdzv_backend == "c10d":
        return [
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={settings.master_addr or 'HOST'}:{settings.master_port}",
            f"--rdzv-id={job.attempt.path.name}",
            f"--rdzv-conf=is_host={'false' if settings.node_rank else 'true'}",
        ]
    return [
        f"--node-rank={settings.node_rank}",
        f"--master-addr={settings.master_addr or 'HOST'}",
        f"--master-port={settings.master_port}",
    ]


def _numbered(job: Job) -> dict[str, str]:
    """c10d numbers the nodes by their addresses; zpipe numbers the ranks by launcher.node_rank."""
    if job.settings.rdzv_backend == "static":
        return ONE_JOB
    shared = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "0"}  # of the agents: rank 0 may be on any of their nodes
    return {**ONE_JOB, NODE_RANK: str(job.settings.node_rank), **shared}


def _own_address(plan: Plan) -> dict[str, str]:
    """torchrun's --local-addr: the host name of a node need not be known to all."""
    settings = plan.experiment.launcher
    if settings.rdzv_backend == "static" or _LOCAL_ADDRESS in {**os.environ, **settings.env}:
        return {}
    address = address_towards(str(settings.master_addr), settings.master_port)
    return {} if address is None else {_LOCAL_ADDRESS: address}


LAUNCHER = Torchrun
