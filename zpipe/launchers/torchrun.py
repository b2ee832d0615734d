"""PyTorch's launcher: one agent that starts the ranks, signals them together and keeps their logs."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from zpipe.launchers.base import Launcher
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.plan_file import folder_of


class Torchrun(Launcher):
    """One node. The rendezvous is a file: torch's TCP store would listen on every interface."""

    environment: ClassVar[dict[str, str]] = {
        # The ranks meet in a file of their own (zpipe/train/process_group.py).
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        # Files in the working folder must not replace the packages of the workers.
        "PYTHONSAFEPATH": "1",
    }

    def render(self, run_dir: Path, attempt: Attempt, nproc_per_node: int) -> list[str]:
        return [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes=1",
            f"--nproc-per-node={nproc_per_node}",
            "--rdzv-backend=c10d",
            "--rdzv-conf=store_type=file",
            f"--rdzv-endpoint={attempt.rendezvous}",
            "--max-restarts=0",
            f"--log-dir={attempt.logs}",
            "--redirects=3",
            "-m",
            "zpipe.train",
            str(run_dir),
        ]

    def start(self, plan: Plan, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Starts the agent. A rendezvous file of an earlier launch would keep it from starting the ranks."""
        folder_of(plan).attempt.rendezvous.unlink(missing_ok=True)
        return super().start(plan, environment)


LAUNCHER = Torchrun
