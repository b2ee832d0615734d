"""Measures what saving and resuming cost: seconds and bytes, beside plain torch.save of as many bytes.

    python -m benchmarks.checkpoints [NAME ...]

Each run trains the shape of Llama 3.2 1B (1.24 billion parameters, bf16), saves twice, and is started again
from its last checkpoint for two further steps. Prints a Markdown table.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from zpipe.runfolder.events import CheckpointSaved, PhaseStarted, StepReached
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.run_events import RunEvents

COMMON = [
    "model=llama3_1b",
    "data.max_length=1024",
    "data.eval_fraction=0",
    "batch.per_device_train_batch_size=1",
    "train.gradient_checkpointing=true",
    "train.logging_steps=1",
    "precision=bf16",
    "checkpoint.save_steps=3",
    "checkpoint.save_total_limit=1",
    "checkpoint.save_final_model=false",
    "tracking.enabled=false",
]
RUNS = {
    "stage 2": ["stage=2"],
    "stage 3": ["stage=3"],
    "stage 3, CPU offload": ["stage=3", "offload=cpu"],
}
ROOT = Path("outputs") / "benchmarks" / "checkpoints"
_BLOCK_ELEMENTS = 1 << 28

_TORCH_SAVE = """
import os, sys, time, torch
elements = int(sys.argv[2]) // 4
tensors = [torch.ones(min({block}, elements - start)) for start in range(0, elements, {block})]
began = time.perf_counter()
torch.save(tensors, sys.argv[1])
written = time.perf_counter()
with open(sys.argv[1]) as file:
    os.fsync(file.fileno())
print(written - began, time.perf_counter() - written)
"""


def main() -> None:
    ROOT.mkdir(parents=True, exist_ok=True)
    columns = ("run", "GiB", "write", "read back", "sync", "GiB/s", "torch.save", "its fsync", "load")
    print(f"| {' | '.join(columns)} |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in sys.argv[1:] or RUNS:
        print(_row(name, ROOT / name.replace(", ", "-").replace(" ", "-")), flush=True)


def _row(name: str, folder: Path) -> str:
    _train(name, folder, 6)
    saves = [each for each in RunEvents(RunFolder(folder)).read_new() if isinstance(each, CheckpointSaved)]
    last = saves[-1]
    _train(name, folder, 8)
    written, synced = _torch_save(last.bytes)
    gib, total = last.bytes / 2**30, sum(last.seconds.values())
    parts = [gib, *last.seconds.values(), gib / total, written, synced, _load_seconds(folder)]
    shutil.rmtree(folder)
    return f"| {name} | " + " | ".join(f"{part:.2f}" for part in parts) + " |"


def _train(name: str, folder: Path, steps: int) -> None:
    argv = [sys.executable, "-m", "zpipe", *COMMON, *RUNS[name], f"train.max_steps={steps}"]
    subprocess.run([*argv, f"hydra.run.dir={folder}"], env=os.environ, check=True)


def _load_seconds(folder: Path) -> float:
    """From the phase in which the second attempt loads to its first step event."""
    events, _ = RunEvents.after_attempt(RunFolder(folder), 1)
    began = 0.0
    for event in events.read_new():
        if isinstance(event, PhaseStarted) and event.name == "train":
            began = event.time
        if isinstance(event, StepReached):
            return event.time - began
    return float("nan")


def _torch_save(count: int) -> tuple[float, float]:
    """Seconds of torch.save and of the fsync after it, for tensors of this many bytes in total."""
    file = ROOT / "plain.pt"
    script = _TORCH_SAVE.format(block=_BLOCK_ELEMENTS)
    os.sync()  # what the run before has written must not compete for the disk
    done = subprocess.run(
        [sys.executable, "-c", script, str(file), str(count)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    file.unlink()
    written, synced = map(float, done.stdout.split())
    return written, synced


if __name__ == "__main__":
    main()
