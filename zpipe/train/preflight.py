"""`python -m zpipe.train.preflight FOLDER`: one rank of `zpipe doctor --launch`. It trains nothing."""

import os
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.exits import Exit
from zpipe.plans.plan import Plan
from zpipe.redact import redact
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import read_plan
from zpipe.runfolder.preflight import SIZES, RankReport, write_rank_report
from zpipe.train.light_imports import leave_out_mlflow
from zpipe.train.operators import disable_shm_comm
from zpipe.train.parent_watch import exit_with_parent
from zpipe.train.process_group import join_group, leave_group
from zpipe.train.ranks import Rank, renumber

if TYPE_CHECKING:
    import torch

SECONDS = 2.0
"""How long one size is measured, about."""
MOST_TIMES = 50


def check(folder: Path) -> int:
    """Joins the other ranks, measures the all-reduce with them and reports both; returns an `Exit` code."""
    rank, plan, attempt = Rank.from_environment(), read_plan(folder), RunFolder(folder).attempt
    report = RankReport(rank=rank.index, node=rank.node, host=socket.gethostname())
    write_rank_report(attempt, report)
    try:
        device = _device(plan, rank)
        join_group(plan, rank, timedelta(seconds=plan.experiment.launcher.node_timeout_s))
        report = report.model_copy(update={"stage": "joined"})
        write_rank_report(attempt, report)
        seconds = {size: _all_reduce_seconds(device, size) for size in SIZES}
    except Exception as error:
        message = redact(f"{type(error).__name__}: {error}".splitlines()[0])
        write_rank_report(attempt, report.model_copy(update={"error": message}))
        return Exit.FAILED
    write_rank_report(attempt, report.model_copy(update={"stage": "measured", "seconds": seconds}))
    leave_group()
    return Exit.FINISHED


def _device(plan: Plan, rank: Rank) -> "torch.device":
    """The device of this rank, ready for DeepSpeed's communication."""
    import torch

    if plan.launch.device == "cpu":
        disable_shm_comm()
        return torch.device("cpu")
    torch.cuda.set_device(rank.local_index)
    return torch.device("cuda", rank.local_index)


def _all_reduce_seconds(device: "torch.device", size: int) -> float:
    """Seconds of one all-reduce of so many bytes. A collective: each rank measures as often as the others."""
    import torch
    import torch.distributed as dist

    values = torch.zeros(size // 4, dtype=torch.float32, device=device)

    def reduce() -> None:
        dist.all_reduce(values)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    reduce()  # connections are made on first use
    slowest = torch.tensor([_seconds(reduce)], device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    times = max(1, min(MOST_TIMES, int(SECONDS / max(slowest.item(), 1e-6))))
    return sum(_seconds(reduce) for _ in range(times)) / times


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    renumber()
    exit_with_parent()
    leave_out_mlflow()
    code = check(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # a rank that could not join would wait for others when its group is destroyed
