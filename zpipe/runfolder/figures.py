"""The figures that tables show. A heading means one figure in all of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from zpipe.plans.memory import MemoryPrediction

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

PREDICTED_ALLOCATED = "memory/predicted_allocated_gib"
PREDICTED_RESERVED = "memory/predicted_reserved_gib"
PREDICTED_HOST = "memory/predicted_host_gib"
"""Of all ranks of one node."""

COMPARED_LOSSES = {"eval_loss": "eval loss", "train_loss": "mean train loss"}
"""Losses by which the points of a sweep are compared, with their headings."""


def compared_loss(summaries: Iterable[Mapping[str, Any]]) -> str:
    """The loss by which points are compared: the evaluation's if all that have a loss have it."""
    with_loss = [each for each in summaries if any(name in each for name in COMPARED_LOSSES)]
    return "eval_loss" if with_loss and all("eval_loss" in each for each in with_loss) else "train_loss"


def predicted_figures(memory: MemoryPrediction | None) -> dict[str, float]:
    """The predicted peaks in GiB, by their names in MLflow; empty without a prediction."""
    values: dict[str, float] = {}
    if memory is not None and memory.gpu is not None:
        values[PREDICTED_ALLOCATED] = _gib(memory.gpu.allocated.total)
        values[PREDICTED_RESERVED] = _gib(memory.gpu.reserved)
    if memory is not None and memory.host is not None:
        values[PREDICTED_HOST] = _gib(memory.host.node)
    return values


def figures_so_far(values: Mapping[str, float], memory: MemoryPrediction | None) -> dict[str, float]:
    """Of a run that did not finish, from what it logged last: a speed is that of the last log, not a mean."""
    kept = {name: value for name, value in values.items() if name in EVAL_LOSS or name.startswith("memory/")}
    prefix = "throughput/"
    kept |= {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    if "loss" in values:
        kept["final_loss"] = values["loss"]
    return {**predicted_figures(memory), **kept} if kept else {}


def predicted_and_measured(values: Mapping[str, Any], nodes: int = 1) -> dict[str, tuple[float, float]]:
    """Of GPU and host, the predicted and the measured peak in GiB, as far as both are known.

    The measured host memory is that of all nodes together; that of one is compared.
    """
    measured_gpu = next((values[name] for name in GPU_PEAK if name in values), None)
    measured_host = next((values[name] / nodes for name in HOST_PEAK if name in values), None)
    pairs = {
        "GPU": (values.get(PREDICTED_RESERVED), measured_gpu),
        "host": (values.get(PREDICTED_HOST), measured_host),
    }
    return {name: (a, b) for name, (a, b) in pairs.items() if a is not None and b}


def _gib(count: int) -> float:
    return round(count / 2**30, 4)
