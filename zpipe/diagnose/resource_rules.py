"""Rules for runs that ran out of GPU memory, host memory or disk space."""

import re
import signal

from zpipe.diagnose.evidence import Evidence, RankError
from zpipe.diagnose.root_cause import root_error, root_exit
from zpipe.diagnose.verdict import Verdict, agent_signal, from_error, matching_line, where
from zpipe.launchers.rank_exits import RankExit
from zpipe.machine.samples import Sample
from zpipe.terminal.units import size

MEMORY_IS_FULL = 0.95
"""Share of the limit from which a SIGKILL is attributed to a lack of memory."""
DISK_IS_FULL = 1 << 20
"""Free bytes below which the disk counts as full."""
LAST_SAMPLES = 15
"""Samples before the end, one per second, in which memory or disk must have run out to explain it."""

_GPU_MEMORY = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|Cuda failure 2 'out of memory'|"
    r"Failed to CUDA calloc|HIP out of memory|CUBLAS_STATUS_ALLOC_FAILED"
)
_HOST_MEMORY = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory|Cannot allocate memory|std::bad_alloc|"
    r"^MemoryError\b",
    re.MULTILINE,
)
_PINNED_MEMORY = re.compile(r"pin_memory\(|cudaHostAlloc|HostAllocator")
_DATA_LOADER_KILLED = re.compile(r"DataLoader worker .*killed by signal: Killed")
_DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|PytorchStreamWriter failed writing|"
    r"inline_container\.cc.*unexpected pos"
)
"""The last two are all that torch.save reports when the file system writes less than it was given."""


def gpu_memory(evidence: Evidence) -> Verdict | None:
    """An allocation on the GPU failed. A failure to pin host memory is reported as a CUDA error too."""
    error = root_error(evidence)
    if error is None:
        return None
    is_gpu = error.type == "OutOfMemoryError" or _GPU_MEMORY.search(error.message)
    if not is_gpu or _PINNED_MEMORY.search(error.traceback):
        return None
    return from_error("gpu_out_of_memory", evidence, error)


def host_memory(evidence: Evidence) -> Verdict | None:
    """An allocation failed, or a process was killed while memory was short."""
    error, rank_exit = root_error(evidence), root_exit(evidence)
    if error is not None and _is_host_memory(error):
        return from_error("host_out_of_memory", evidence, error)
    rank = _killed_rank(error, rank_exit)
    agent_died = error is None and rank_exit is None and agent_signal(evidence) == signal.SIGKILL
    if not (agent_died or rank is not None) or not _was_short_of_memory(evidence):
        return _abort_for_memory(evidence, rank_exit)
    memory = _memory(evidence.samples[-LAST_SAMPLES:])
    who = "the launcher" if rank is None else f"rank {rank}"
    return Verdict("host_out_of_memory", f"{who} was killed {where(evidence)} with {memory}", rank)


def disk(evidence: Evidence) -> Verdict | None:
    """A write failed, or the disk of the run folder was full at the end."""
    error = root_error(evidence)
    if error is not None and _DISK_FULL.search(error.message + error.traceback):
        return from_error("disk_full", evidence, error)
    rank = error.rank if error else None
    line = next((line for line in evidence.all_lines if _DISK_FULL.search(line)), None)
    if line is not None:
        return Verdict("disk_full", line.strip(), rank)
    if any(sample.disk_free < DISK_IS_FULL for sample in evidence.samples[-LAST_SAMPLES:]):
        details = f": {error.line}" if error else ""
        return Verdict("disk_full", f"the disk of the run folder is full{details}", rank)
    return None


def _is_host_memory(error: RankError) -> bool:
    pinned = "out of memory" in error.message and _PINNED_MEMORY.search(error.traceback)
    return bool(pinned or _HOST_MEMORY.search(f"{error.type}: {error.message}"))


def _killed_rank(error: RankError | None, rank_exit: RankExit | None) -> int | None:
    """The rank that got SIGKILL, or whose data loader did."""
    if rank_exit is not None and rank_exit.exit_code == -signal.SIGKILL:
        return rank_exit.rank
    return error.rank if error is not None and _DATA_LOADER_KILLED.search(error.message) else None


def _abort_for_memory(evidence: Evidence, rank_exit: RankExit | None) -> Verdict | None:
    """C++ code aborts the process if an allocation fails, and writes the reason to standard error only."""
    if rank_exit is None or rank_exit.signal_name is None:
        return None
    line = matching_line(evidence, rank_exit.rank, _HOST_MEMORY)
    if line is None:
        return None
    reason = f"rank {rank_exit.rank} was killed by {rank_exit.signal_name} {where(evidence)}: {line}"
    return Verdict("host_out_of_memory", reason, rank_exit.rank)


def _was_short_of_memory(evidence: Evidence) -> bool:
    """Whether the kernel killed a process to free memory at the end, or memory was nearly used up."""
    last = evidence.samples[-LAST_SAMPLES:]
    if not last:
        return False
    killed = last[-1].oom_kills > last[0].oom_kills
    return killed or (memory_use(evidence) or 0.0) >= MEMORY_IS_FULL


def memory_use(evidence: Evidence) -> float | None:
    """Highest share of host memory in use at the end; None without samples."""
    shares = (sample.host_used / sample.host_limit for sample in evidence.samples[-LAST_SAMPLES:])
    return max(shares, default=None)


def _memory(samples: tuple[Sample, ...]) -> str:
    """The highest use of host memory, and the kernel's OOM kills if there were any."""
    fullest = max(samples, key=lambda sample: sample.host_used)
    kills = samples[-1].oom_kills - samples[0].oom_kills
    text = f"{size(fullest.host_used, 2)} of {size(fullest.host_limit, 2)} of host memory in use"
    return f"{text}; OOM kills by the kernel: {kills}" if kills else text
