"""This machine as `zpipe doctor` shows it."""

import platform
import socket
from pathlib import Path

from zpipe.checkpoints.home import checkpoint_home, is_divided
from zpipe.machine.disk import free_bytes_for
from zpipe.machine.hardware import Hardware
from zpipe.paths import expanded
from zpipe.plans.plan import Plan
from zpipe.runfolder.preflight import NodeReport


def node_report(plan: Plan, hardware: Hardware) -> NodeReport:
    """Reads only. Call it before anything creates the swap folder of the plan."""
    nvme_path = plan.experiment.offload.nvme_path
    swap = None if plan.swap_dir is None else Path(plan.swap_dir)
    return NodeReport(
        node=plan.experiment.launcher.node_rank,
        host=socket.gethostname(),
        python=platform.python_version(),
        versions=plan.versions,
        gpus=[gpu.name for gpu in hardware.gpus],
        cores=hardware.cores,
        memory=hardware.memory,
        run_disk_free=free_bytes_for(Path(plan.run_dir)),
        swap_disk_free=None if swap is None else free_bytes_for(swap),
        checkpoint_disk_free=free_bytes_for(checkpoint_home(plan)) if is_divided(plan) else None,
        has_swap_path=swap is None or nvme_path is None or expanded(nvme_path).is_dir(),
    )
