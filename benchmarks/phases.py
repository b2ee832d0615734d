"""The peaks of GPU memory in each phase of a run: start, forward, backward and optimizer step."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STEPS_KEPT = 4


class Phases:
    """Reads the allocator between the phases, and keeps the peaks of the run, because they are reset."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.peak_allocated = self.peak_reserved = self.peak_requested = 0
        self.used = 0

    def end(self, phase: str) -> None:
        """Ends the phase that began when the last one ended."""
        import torch

        stats = torch.cuda.memory_stats()
        allocated, reserved = stats["allocated_bytes.all.peak"], stats["reserved_bytes.all.peak"]
        self.peak_allocated = max(self.peak_allocated, allocated)
        self.peak_reserved = max(self.peak_reserved, reserved)
        self.peak_requested = max(self.peak_requested, stats["requested_bytes.all.peak"])
        free, total = torch.cuda.mem_get_info()
        self.used = max(self.used, total - free - stats["reserved_bytes.all.current"])
        if len(self.rows) < 3 * STEPS_KEPT + 3:
            self.rows.append(
                {
                    "phase": phase,
                    "peak": allocated,
                    "requested": stats["requested_bytes.all.peak"],
                    "reserved": reserved,
                    "left": stats["allocated_bytes.all.current"],
                    "reserved_left": stats["reserved_bytes.all.current"],
                    "host": _resident(),
                    "time": time.time(),
                }
            )
        torch.cuda.reset_peak_memory_stats()

    def write(self, file: Path) -> None:
        values = {
            "peak_allocated": self.peak_allocated,
            "peak_reserved": self.peak_reserved,
            "peak_requested": self.peak_requested,
            "outside": self.used,
            "phases": self.rows,
        }
        file.write_text(json.dumps(values), encoding="utf-8")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def _write_trace(phases: Phases, file: Path) -> None:
    import torch

    from benchmarks.live_at_peak import live_at_peaks

    traces = torch.cuda.memory._snapshot()["device_traces"]
    events = traces[torch.cuda.current_device()]
    text = json.dumps(live_at_peaks(events, phases.rows), indent=1)
    file.with_suffix(".live.json").write_text(text, encoding="utf-8")
    import gzip

    from benchmarks.live_at_peak import origin

    rows = [
        [e["action"], e["addr"], e["size"], e["time_us"], e["stream"], origin(e.get("frames", []))]
        for e in events
        if e["action"]
        in ("alloc", "free_completed", "segment_map", "segment_unmap", "segment_alloc", "segment_free")
    ]
    ends = [[each["phase"], each["time"] * 1e6] for each in phases.rows]
    with gzip.open(file.with_suffix(".raw.json.gz"), "wt", encoding="utf-8") as out:
        json.dump({"ends": ends, "rows": rows}, out)


@contextmanager
def record_phases(file: Path) -> Iterator[None]:
    """Writes the peaks of the phases to the file when the block ends. Does nothing without CUDA."""
    import torch
    from deepspeed.runtime.engine import DeepSpeedEngine

    phases = Phases()
    if os.environ.get("POINTS_TRACE") and torch.cuda.device_count():
        torch.cuda.memory._record_memory_history(max_entries=2_000_000, stacks="python")

    def ended(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name in ("engine", "forward"):
                phases.end(f"before {name}")
            result = method(*args, **kwargs)
            phases.end(name)
            return result

        return wrapped

    if torch.cuda.device_count():
        names = {"__init__": "engine", "forward": "forward", "backward": "backward", "step": "step"}
        for attribute, name in names.items():
            setattr(DeepSpeedEngine, attribute, ended(name, getattr(DeepSpeedEngine, attribute)))
    try:
        yield
    finally:
        if torch.cuda.is_initialized():
            phases.end("end")
            phases.write(file)
            if os.environ.get("POINTS_TRACE"):
                _write_trace(phases, file)
