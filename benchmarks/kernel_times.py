"""Where a step's time goes on the device: kernels by phase, and the time in which the device idles.

    python -m benchmarks.kernel_times TRACE.json.gz

The points server writes a trace for points with `"profile": true`, the plain loop with `--profile FILE`.
"""

import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FIRST_STEP, STEPS = 6, 2
TOP = 16


class StepProfiler:
    """Profiles a few steps, which begin with a forward pass."""

    def __init__(self, file: Path) -> None:
        from torch.profiler import ProfilerActivity, profile

        self._file, self._step = file, 0
        self._profiler: Any = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])

    def begin_step(self) -> None:
        import torch

        self._step += 1
        if self._step == FIRST_STEP:
            torch.cuda.synchronize()
            self._profiler.start()
        elif self._step == FIRST_STEP + STEPS:
            torch.cuda.synchronize()
            self._profiler.stop()
            self._profiler.export_chrome_trace(str(self._file))


@contextmanager
def profile_engine(file: Path) -> Iterator[None]:
    """Marks forward, backward and step of DeepSpeed's engine while the block runs."""
    from deepspeed.runtime.engine import DeepSpeedEngine
    from torch.profiler import record_function

    profiler = StepProfiler(file)

    def marked(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name == "forward":
                profiler.begin_step()
            with record_function(f"phase {name}"):
                return method(*args, **kwargs)

        return wrapped

    for name in ("forward", "backward", "step"):
        setattr(DeepSpeedEngine, name, marked(name, getattr(DeepSpeedEngine, name)))
    yield


def phases_of(events: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Microseconds of each kernel, by the phase of the host in which it was launched."""
    launches = {
        each["args"]["correlation"]: each["ts"]
        for each in events
        if each.get("cat") in ("cuda_runtime", "cuda_driver") and "correlation" in each.get("args", {})
    }
    spans = [
        (each["ts"], each["ts"] + each["dur"], each["name"])
        for each in events
        if each.get("cat") == "user_annotation" and each["name"].startswith("phase ")
    ]
    found: dict[str, Counter[str]] = {}
    for each in events:
        if each.get("cat") not in ("kernel", "gpu_memcpy", "gpu_memset"):
            continue
        launched = launches.get(each["args"].get("correlation"), each["ts"])
        phase = next((name for start, end, name in spans if start <= launched <= end), "between")
        found.setdefault(phase, Counter())[each["name"][:90]] += each["dur"]
    return found


def idle_of(events: list[dict[str, Any]]) -> tuple[float, float]:
    """Microseconds from the first kernel to the end of the last one, and those without any kernel."""
    kernels = sorted(
        (each["ts"], each["ts"] + each["dur"])
        for each in events
        if each.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")
    )
    idle, end = 0.0, kernels[0][1]
    for start, stop in kernels:
        idle += max(start - end, 0)
        end = max(end, stop)
    return end - kernels[0][0], idle


def main() -> None:
    with gzip.open(sys.argv[1], "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    total, idle = idle_of(events)
    print(f"{total / STEPS / 1000:.1f} ms a step, {idle / STEPS / 1000:.1f} ms of it idle")
    for phase, kernels in phases_of(events).items():
        print(f"{phase}: {sum(kernels.values()) / STEPS / 1000:.1f} ms")
        for name, spent in kernels.most_common(TOP):
            print(f"  {spent / STEPS / 1000:8.2f}  {name}")


if __name__ == "__main__":
    main()
