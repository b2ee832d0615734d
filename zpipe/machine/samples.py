"""Memory and disk use over time: `samples.jsonl` of an attempt, one JSON object per line.

A sample is taken once a second. It is written if a value has changed by 1% of its limit or if a minute has
passed, so that a week without changes takes a few hundred kilobytes.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from zpipe.machine.disk import free_bytes
from zpipe.machine.host_memory import HostMemoryReader
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.foreign_files import read_bytes
from zpipe.runfolder.json_lines import append_line

SAMPLE_SECONDS = 1.0
WRITE_SECONDS = 60.0
CHANGE = 0.01
KEPT = 600
"""Samples kept in memory: the last ten minutes, written or not."""


Amount: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]


@dataclass(frozen=True)
class Sample:
    """One measurement. Bytes everywhere, Unix time in seconds."""

    time: Annotated[float, Field(ge=0, le=1e11)]
    host_used: Amount
    """Of the machine, or of the control group that limits this process."""
    host_limit: Amount
    workers: Amount
    """Resident memory of all processes of the launch."""
    oom_kills: Amount
    """By the kernel, since the machine or the control group was set up."""
    disk_free: Amount
    """Free space on the file system of the run folder."""
    gpu_used: tuple[Amount, ...] = ()
    gpu_total: tuple[Amount, ...] = ()


class Sampler:
    """Takes at most one sample per second; never raises because of a missing file or a full disk."""

    def __init__(self, attempt: Attempt, resident_bytes: Callable[[], int], with_gpus: bool) -> None:
        self.kept: deque[Sample] = deque(maxlen=KEPT)
        self._attempt = attempt
        self._resident_bytes = resident_bytes
        self._host = HostMemoryReader()
        self._gpus = _Gpus() if with_gpus else None
        self._written: Sample | None = None
        self._sampled = float("-inf")

    def tick(self) -> None:
        """Takes a sample if the last one is a second old."""
        if time.monotonic() - self._sampled >= SAMPLE_SECONDS:
            self.sample()

    def sample(self) -> None:
        """Takes a sample now, and writes it if it differs enough from the last one written."""
        self._sampled = time.monotonic()
        host = self._host.read()
        used, total = self._gpus.read() if self._gpus else ((), ())
        sample = Sample(
            time=round(time.time(), 2),
            host_used=host.used,
            host_limit=host.limit,
            workers=self._resident_bytes(),
            oom_kills=host.oom_kills,
            disk_free=free_bytes(self._attempt.path),
            gpu_used=used,
            gpu_total=total,
        )
        self.kept.append(sample)
        if self._written is None or is_worth_writing(sample, self._written):
            self._write(sample)

    def _write(self, sample: Sample) -> None:
        # On a full disk only the samples in memory are available.
        with suppress(OSError):
            append_line(self._attempt.samples, asdict(sample))
            self._written = sample


def is_worth_writing(sample: Sample, before: Sample) -> bool:
    """Whether a sample differs enough from the last one written."""
    if sample.time - before.time >= WRITE_SECONDS or sample.oom_kills != before.oom_kills:
        return True
    pairs = [(sample.host_used, before.host_used, sample.host_limit)]
    pairs += [(sample.workers, before.workers, sample.host_limit)]
    pairs += [(sample.disk_free, before.disk_free, max(before.disk_free, 1))]
    pairs += zip(sample.gpu_used, before.gpu_used, sample.gpu_total, strict=False)
    return any(abs(now - then) >= CHANGE * whole for now, then, whole in pairs)


def read_samples(attempt: Attempt) -> list[Sample]:
    """The samples that were written; an incomplete last line is left out."""
    try:
        lines = read_bytes(attempt.samples).splitlines()
    except OSError:
        return []
    return [sample for line in lines if (sample := _decode(line)) is not None]


def _decode(line: bytes) -> Sample | None:
    from pydantic import TypeAdapter, ValidationError  # the supervisor writes samples and reads none

    try:
        return TypeAdapter(Sample).validate_json(line)
    except (ValidationError, RecursionError):
        return None


class _Gpus:
    """Memory of the GPUs visible to the workers, through NVML; empty if NVML fails."""

    def __init__(self) -> None:
        import pynvml

        from zpipe.machine.hardware import visible_indices

        self._nvml = pynvml
        self._handles: list[Any] = []
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            indices = visible_indices(pynvml.nvmlDeviceGetCount())
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in indices]

    def read(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Used and total bytes of each GPU."""
        try:
            memory = [self._nvml.nvmlDeviceGetMemoryInfo(handle) for handle in self._handles]
        except self._nvml.NVMLError:
            return (), ()
        return tuple(int(each.used) for each in memory), tuple(int(each.total) for each in memory)
