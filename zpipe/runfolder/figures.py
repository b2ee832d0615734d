"""The figures that tables show. A heading means one figure in all of them."""

from collections.abc import Iterable, Mapping
from typing import Any

LAST_LOSS = ("final_loss", "loss")
"""The training loss that was logged last; the second name is that of a run in progress."""
EVAL_LOSS = ("eval_loss",)
SPEED = ("tokens_per_sec", "throughput/tokens_per_sec")
TFLOPS = ("tflops_per_gpu", "throughput/tflops_per_gpu")
MFU = ("mfu", "throughput/mfu")
"""Model FLOPs utilization, from 0 to 1."""
GPU_PEAK = ("memory/peak_reserved_gib",)
HOST_PEAK = ("memory/host_peak_all_ranks_gib", "memory/host_peak_gib")
"""Of all processes of a run; a run with one process has the second alone."""

COMPARED_LOSSES = {"eval_loss": "eval loss", "train_loss": "mean train loss"}
"""Losses by which the points of a sweep are compared, with their headings."""


def compared_loss(summaries: Iterable[Mapping[str, Any]]) -> str:
    """The loss by which points are compared: the evaluation's if all that have a loss have it."""
    with_loss = [each for each in summaries if any(name in each for name in COMPARED_LOSSES)]
    return "eval_loss" if with_loss and all("eval_loss" in each for each in with_loss) else "train_loss"
