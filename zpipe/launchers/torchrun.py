"""PyTorch's launcher: one agent that starts the ranks, signals them together and keeps their logs."""

import subprocess
import sys
from collections.abc import Mapping
from typing import ClassVar

from zpipe.launchers.base import LOOPBACK, NO_FOREIGN_IMPORTS, WORKER, Job, Launcher, Rendered
from zpipe.plans.plan import Plan
from zpipe.runfolder.plan_file import folder_of

OWN_RENDEZVOUS = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""The ranks meet in a file of their own (zpipe/train/process_group.py), not in the store of their agent."""


class Torchrun(Launcher):
    """One node. The rendezvous is a file: torch's TCP store would listen on every interface."""

    environment: ClassVar[Mapping[str, str]] = {**LOOPBACK, **NO_FOREIGN_IMPORTS, **OWN_RENDEZVOUS}

    def render(self, job: Job) -> Rendered:
        return Rendered(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--nnodes=1",
                f"--nproc-per-node={job.nproc_per_node}",
                "--rdzv-backend=c10d",
                "--rdzv-conf=store_type=file",
                f"--rdzv-endpoint={job.attempt.rendezvous}",
                "--max-restarts=0",
                f"--log-dir={job.attempt.logs}",
                "--redirects=3",
                "-m",
                WORKER,
                str(job.run.path),
            ]
        )

    def start(self, plan: Plan, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Starts the agent. A rendezvous file of an earlier launch would keep it from starting the ranks."""
        folder_of(plan).attempt.rendezvous.unlink(missing_ok=True)
        return super().start(plan, environment)


LAUNCHER = Torchrun
