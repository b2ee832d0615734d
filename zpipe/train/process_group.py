"""Joins the ranks in a process group, which on one machine opens no port to other machines.

torch's default store listens on every interface and stores what anybody sends to it; here the ranks meet in a
file of the run folder. Gloo and NCCL are bound to the loopback interface by the launcher's environment.
"""

from datetime import timedelta
from typing import Any

from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, either
from zpipe.runfolder.plan_file import folder_of
from zpipe.train.ranks import Rank


def join_group(plan: Plan, rank: Rank, timeout: timedelta) -> None:
    """Initializes torch.distributed, and DeepSpeed's communication on top of it. A collective."""
    import deepspeed
    import torch.distributed as dist
    from deepspeed.accelerator import get_accelerator
    from torch._C._distributed_c10d import FileStore

    if dist.is_initialized():  # by the run before this one, under launcher=inprocess
        _require_device(plan.launch.device, get_accelerator().device_name())
        return
    file = folder_of(plan).attempt.process_group(rank.launch_id)
    # Several nodes meet in the store of torchrun's agents: a file would have to be locked over the network.
    store = FileStore(str(file), rank.world_size) if plan.launch.nodes == 1 else None
    dist.init_process_group(
        get_accelerator().communication_backend_name(),
        store=store,
        rank=rank.index,
        world_size=rank.world_size,
        timeout=timeout,
        **_device(plan, rank),
    )
    deepspeed.init_distributed(timeout=timeout, verbose=False)


def _require_device(wanted: str, device: str) -> None:
    """DeepSpeed keeps the device that it has found first in a process."""
    if wanted != device:
        reason = f"a run of this process has used {device}, and DeepSpeed cannot change it"
        fix = either("launcher=torchrun", f"launcher.device={device}")
        raise Refusal([Problem("launcher.device", wanted, reason, f"{device}, or a new process", fix)])


def leave_group() -> None:
    """Leaves the process group. Call it once per process: DeepSpeed cannot join a second group."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _device(plan: Plan, rank: Rank) -> dict[str, Any]:
    """Binds NCCL to the GPU of this rank, as DeepSpeed does it for more than one rank."""
    if plan.launch.device != "cuda" or rank.world_size == 1:
        return {}
    import torch

    return {"device_id": torch.device("cuda", rank.local_index)}
