"""Metrics of the training loop: time, memory and loss scale."""

import math
import os
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zpipe.plans.flops import TrainingFlops

GIB = 2**30
_PAGE = os.sysconf("SC_PAGE_SIZE")
WARM_UP_STEPS = 2
"""Excluded from the steady throughput, because kernels are selected and buffers allocated in them."""


class Stopwatch:
    """Counts sequences over training time, which excludes evaluation and saving."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.started = self._marked = time.perf_counter()
        self.sequences = 0
        self.steps = 0
        self._paused = 0.0

    def add_step(self, sequences: int) -> None:
        self.sequences += sequences
        self.steps += 1
        self._marked = time.perf_counter()

    def mark(self) -> None:
        """Counts the time since the last mark as training."""
        self._marked = time.perf_counter()

    def exclude(self) -> None:
        """Excludes the time since the last mark from the training time."""
        now = time.perf_counter()
        self._paused += now - self._marked
        self._marked = now

    def seconds(self) -> float:
        """Training time in seconds until the last mark; never zero."""
        return max(self._marked - self.started - self._paused, 1e-9)


@dataclass(frozen=True)
class Throughput:
    """Computes throughput metrics from a stopwatch."""

    tokens_per_sequence: float
    """The mean, without padding."""
    world_size: int
    flops: TrainingFlops | None = None

    def read(self, watch: Stopwatch) -> dict[str, float]:
        """Rates per second over all ranks; {} before the first step."""
        if not watch.steps:
            return {}
        seconds = watch.seconds()
        tokens = watch.sequences * self.tokens_per_sequence / seconds
        return {
            "throughput/tokens_per_sec": tokens,
            "throughput/tokens_per_sec_per_gpu": tokens / self.world_size,
            "throughput/samples_per_sec": watch.sequences / seconds,
            "throughput/step_time_s": seconds / watch.steps,
            **self._utilization(tokens / self.world_size),
        }

    def _utilization(self, tokens: float) -> dict[str, float]:
        """Model FLOPs at this many tokens per second of one rank, and their share of the peak."""
        if self.flops is None:
            return {}
        done = tokens * self.flops.per_token(self.tokens_per_sequence)
        share = {"throughput/mfu": done / self.flops.peak} if self.flops.peak is not None else {}
        return {"throughput/tflops_per_gpu": done / 1e12, **share}


def wait_for_device() -> None:
    """Returns when the GPU has done all that was queued: the host runs ahead of it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def reset_peaks() -> None:
    """Starts the peaks anew: in one process, a run must not report the peaks of the runs before it."""
    with suppress(OSError):  # a container may not allow it
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc_pid_clear_refs(5)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def read_memory() -> dict[str, float]:
    """Memory of this process in GiB: current and peak host memory and, with CUDA, peaks on the GPU."""
    import torch

    values = {
        "memory/host_rss_gib": _resident_bytes() / GIB,
        "memory/host_peak_gib": _peak_bytes() / GIB,
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        values["memory/peak_allocated_gib"] = torch.cuda.max_memory_allocated() / GIB
        values["memory/peak_reserved_gib"] = torch.cuda.max_memory_reserved() / GIB
    return values


def _resident_bytes() -> int:
    """Resident bytes of this process. Takes a microsecond, where psutil takes twenty."""
    return int(os.pread(_statm_descriptor(), 128, 0).split()[1]) * _PAGE


def _peak_bytes() -> int:
    """Most resident bytes of this process so far.

    ru_maxrss cannot be used: it starts with the memory of the process that forked this one (getrusage(2)).
    """
    status = os.pread(_status_descriptor(), 4096, 0)
    _, _, value = status.partition(b"VmHWM:")
    kib = int(value.split(maxsplit=1)[0]) if value else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib << 10


@cache
def _status_descriptor() -> int:
    """A file descriptor, kept open, of this process's status (proc_pid_status(5))."""
    return os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)


@cache
def _statm_descriptor() -> int:
    """A file descriptor, kept open, of this process's memory usage in pages (proc_pid_statm(5))."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def peaks_over_ranks() -> dict[str, float]:
    """The largest peak of any rank and the sum of all host peaks, in GiB. A collective of all ranks."""
    import torch
    import torch.distributed as dist

    peaks = {name: value for name, value in read_memory().items() if "peak" in name}
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return peaks
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    largest = torch.tensor(list(peaks.values()), dtype=torch.float64, device=device)
    total = largest.clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    dist.all_reduce(total, op=dist.ReduceOp.SUM)
    maxima = dict(zip(peaks, largest.tolist(), strict=True))
    maxima["memory/host_peak_all_ranks_gib"] = total[list(peaks).index("memory/host_peak_gib")].item()
    return maxima


@dataclass(frozen=True)
class SkippedStep:
    """An optimizer step that DeepSpeed skipped because of nonfinite gradients."""

    scale_before: float | None
    scale_after: float | None
    skipped_total: int
    at_min_scale: bool
    """Whether the scale was at its minimum, which a static scale always is."""


class LossScale:
    """Tracks the engine's loss scale and skipped steps. Costs two attribute reads per step."""

    def __init__(self, is_fp16: bool) -> None:
        self.is_fp16 = is_fp16
        self.scale: float | None = None
        self.skipped = 0
        self.last_was_skipped = False
        self.changed = True

    def begin(self, engine: Any) -> None:
        """Call this before each step."""
        self.scale = self._read(engine)
        self.skipped = int(engine.skipped_steps)

    def end(self, engine: Any) -> SkippedStep | None:
        """Call this after each step. Returns the step if it was skipped, else None."""
        before, skipped_before = self.scale, self.skipped
        self.begin(engine)
        self.last_was_skipped = self.skipped > skipped_before
        self.changed = self.changed or self.last_was_skipped or self.scale != before
        if not self.last_was_skipped:
            return None
        at_min_scale = before is not None and before <= self._min_scale(engine)
        return SkippedStep(before, self.scale, self.skipped, at_min_scale)

    def values(self) -> dict[str, float]:
        """As metrics; without fp16 only a count of skipped steps, once there are any.

        Empty after a skipped step, whose overflow event carries them.
        """
        self.changed = False
        if self.last_was_skipped:
            return {}
        if self.is_fp16 and self.scale is not None:
            return {
                "fp16/loss_scale": self.scale,
                "fp16/skipped_steps": float(self.skipped),
                "fp16/overflow": 0.0,
            }
        return {"skipped_steps": float(self.skipped)} if self.skipped else {}

    @staticmethod
    def _min_scale(engine: Any) -> float:
        """The minimum of a dynamic scale; infinity for a static scale, which is always at its minimum."""
        return float(getattr(getattr(engine.optimizer, "loss_scaler", None), "min_scale", math.inf))

    def _read(self, engine: Any) -> float | None:
        if not self.is_fp16:
            return None
        scale = engine._get_optimizer_loss_scale()
        if scale is None:
            scale = getattr(engine.optimizer, "loss_scale", None)
        return None if scale is None else float(scale)
