"""Memory and disk over time: `samples.jsonl` in the run folder, one JSON object a line.

A look is taken once a second; a line is written when something changed by a hundredth, or a minute
passed, so that a quiet week is a few hundred kilobytes.
"""

import json
import shutil
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zpipe.machine.host_memory import HostMemoryReader
from zpipe.runfolder.folder import Attempt

LOOK_SECONDS = 1.0
WRITE_SECONDS = 60.0
CHANGE = 0.01
KEPT = 600
"""Samples in memory: the last ten minutes, whatever was written."""


@dataclass(frozen=True)
class Sample:
    """One look. Bytes everywhere, Unix time in seconds."""

    time: float
    host_used: int
    """Against the limit of the machine, or of the control group that is tighter."""
    host_limit: int
    workers: int
    """Resident memory of the launch's processes."""
    oom_kills: int
    """Of the kernel, since the machine or the group was set up."""
    disk_free: int
    """On the file system of the run folder."""
    gpu_used: tuple[int, ...] = ()
    gpu_total: tuple[int, ...] = ()


class Sampler:
    """Takes samples when asked often enough; never raises for want of a file or of room for one."""

    def __init__(self, attempt: Attempt, resident_bytes: Callable[[], int], with_gpus: bool) -> None:
        self.kept: deque[Sample] = deque(maxlen=KEPT)
        self._attempt = attempt
        self._resident_bytes = resident_bytes
        self._host = HostMemoryReader()
        self._gpus = _Gpus() if with_gpus else None
        self._written: Sample | None = None
        self._looked = float("-inf")

    def tick(self) -> None:
        """Looks if a second has passed since the last time."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.look()

    def look(self) -> None:
        """Takes a sample now, and writes it if it says anything new."""
        self._looked = time.monotonic()
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
        if self._written is None or says_more(sample, self._written):
            self._write(sample)

    def _write(self, sample: Sample) -> None:
        # On a full disk the samples in memory have to do.
        with suppress(OSError), self._attempt.samples.open("a") as file:
            file.write(json.dumps(asdict(sample)) + "\n")
            self._written = sample


def says_more(sample: Sample, before: Sample) -> bool:
    """Whether a sample is worth a line after the one that was written last."""
    if sample.time - before.time >= WRITE_SECONDS or sample.oom_kills != before.oom_kills:
        return True
    pairs = [(sample.host_used, before.host_used, sample.host_limit)]
    pairs += [(sample.workers, before.workers, sample.host_limit)]
    pairs += [(sample.disk_free, before.disk_free, max(before.disk_free, 1))]
    pairs += zip(sample.gpu_used, before.gpu_used, sample.gpu_total, strict=False)
    return any(abs(now - then) >= CHANGE * whole for now, then, whole in pairs)


def read_samples(attempt: Attempt) -> list[Sample]:
    """The samples that were written; a torn last line is left out."""
    file = attempt.samples
    lines = file.read_text().splitlines() if file.is_file() else []
    return [sample for line in lines if (sample := _decode(line)) is not None]


def _decode(line: str) -> Sample | None:
    try:
        values: dict[str, Any] = json.loads(line)
        lists = {name: tuple(values[name]) for name in ("gpu_used", "gpu_total")}
        return Sample(**{**values, **lists})
    except (ValueError, KeyError, TypeError):
        return None


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there; 0 if the folder is gone."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


class _Gpus:
    """Memory of the GPUs that the workers see, through NVML; nothing where NVML does not answer."""

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
        """Used and total bytes of each."""
        try:
            memory = [self._nvml.nvmlDeviceGetMemoryInfo(handle) for handle in self._handles]
        except self._nvml.NVMLError:
            return (), ()
        return tuple(int(each.used) for each in memory), tuple(int(each.total) for each in memory)
