"""PyTorch's launcher: one agent that starts the ranks, signals them together and keeps their logs."""

import sys
from pathlib import Path

from zpipe.launchers.base import Launcher
from zpipe.runfolder.folder import Attempt


class Torchrun(Launcher):
    """One node. The rendezvous uses a free port, so that runs side by side do not collide."""

    def render(self, run_dir: Path, nproc_per_node: int) -> list[str]:
        return [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes=1",
            f"--nproc-per-node={nproc_per_node}",
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=localhost:0",
            "--max-restarts=0",
            f"--log-dir={Attempt(run_dir).logs}",
            "--redirects=3",
            "-m",
            "zpipe.train",
            str(run_dir),
        ]


LAUNCHER = Torchrun
