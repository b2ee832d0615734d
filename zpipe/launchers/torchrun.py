"""PyTorch's own launcher: one agent that starts the ranks, signals them together and keeps their logs."""

import sys
from pathlib import Path


def argv(run_dir: Path, nproc_per_node: int) -> list[str]:
    """One node; the rendezvous takes a free port, so that runs side by side don't meet."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes=1",
        f"--nproc-per-node={nproc_per_node}",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
        "--max-restarts=0",
        f"--log-dir={run_dir / 'logs'}",
        "--redirects=3",
        "-m",
        "zpipe.train",
        str(run_dir),
    ]
