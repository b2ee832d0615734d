"""Measures what saving and resuming cost, in the background and the foreground, beside plain writes.

    python -m benchmarks.checkpoints [NAME ...] [--modes background foreground] [--steps N]
    python -m benchmarks.checkpoints --cpu

On a GPU each run trains the shape of Llama 3.2 1B (1.24 billion parameters, bf16), on a CPU 50 million
parameters in fp32, which makes 1 GiB. It saves every N steps, and is started again from its last checkpoint.
Prints a Markdown table: seconds for the last save, and how long the training stood still for the first
save, which allocates the memory for the copies, and for a later one.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from zpipe.runfolder.events import CheckpointSaved, Event, PhaseStarted, StepReached, Summary
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.run_events import RunEvents

COMMON = [
    "data.eval_fraction=0",
    "train.logging_steps=10",
    "train.warmup_steps=0",
    "checkpoint=default",
    "checkpoint.save_total_limit=1",
    "checkpoint.save_final_model=false",
    "tracking.enabled=false",
]
GPU = [
    "model=llama3_1b",
    "data.max_length=2048",
    "batch.per_device_train_batch_size=4",
    "train.gradient_checkpointing=true",
    "precision=bf16",
]
CPU = [
    "launcher.device=cpu",
    "precision=fp32",
    "data.max_length=16",
    "batch.per_device_train_batch_size=1",
    "model.config.hidden_size=768",
    "model.config.intermediate_size=2048",
    "model.config.num_hidden_layers=7",
    "model.config.num_attention_heads=12",
]
MODES = {"background": ["checkpoint.async_save=true"], "foreground": ["checkpoint.async_save=false"]}
STAGES = {
    "stage 2": [*GPU, "stage=2"],
    "stage 3": [*GPU, "stage=3"],
    "stage 3, CPU offload": [*GPU, "stage=3", "offload=cpu"],
}
STEPS = {"stage 2": 100, "stage 3": 50, "stage 3, CPU offload": 24}
"""Between two saves: enough that the first is written before the second begins."""
ON_CPU = {"CPU, stage 2": [*CPU, "stage=2"], "CPU, stage 3": [*CPU, "stage=3"]}
ROOT = Path("outputs") / "benchmarks" / "checkpoints"
COLUMNS = (
    "run | GiB | held up, first | held up, later | % of 100 steps | write | verify | sync | rotate | GiB/s "
    "| plain GiB/s | torch.save GiB/s | load"
)
SAVES = 3
"""The first allocates the memory for the copies, the last is waited for at the end of the training."""
_BLOCK_BYTES = 1 << 24
_BLOCK_ELEMENTS = 1 << 28

_TORCH_SAVE = """
import os, sys, time, torch
elements = int(sys.argv[2]) // 4
tensors = [torch.ones(min({block}, elements - start)) for start in range(0, elements, {block})]
began = time.perf_counter()
torch.save(tensors, sys.argv[1])
with open(sys.argv[1]) as file:
    os.fsync(file.fileno())
print(time.perf_counter() - began)
"""
_PLAIN = """
import os, sys, time
count, block = int(sys.argv[2]), os.urandom({block})
began = time.perf_counter()
with open(sys.argv[1], "wb", buffering=0) as file:
    for start in range(0, count, len(block)):
        file.write(block[: count - start])
    os.fsync(file.fileno())
print(time.perf_counter() - began)
"""


def main() -> None:
    options = _options()
    ROOT.mkdir(parents=True, exist_ok=True)
    print(f"| {COLUMNS} |")
    print("|---|" + "---:|" * COLUMNS.count(" | "))
    runs = ON_CPU if options.cpu else STAGES
    for name in options.names or runs:
        steps = options.steps or STEPS.get(name, 100)
        for mode in options.modes:
            folder = ROOT / f"{name}-{mode}".replace(", ", "-").replace(" ", "-")
            print(_row(f"{name}, {mode}", [*runs[name], *MODES[mode]], folder, steps), flush=True)


def _row(name: str, overrides: list[str], folder: Path, steps: int) -> str:
    _train(overrides, folder, steps, SAVES * steps)
    events = list(RunEvents(RunFolder(folder)).read_new())
    saves = [each for each in events if isinstance(each, CheckpointSaved)]
    last, gib = saves[-1], saves[-1].bytes / 2**30
    os.sync()  # what the run has written must not compete for the disk
    plain = _seconds(_PLAIN, last.bytes, _BLOCK_BYTES)
    torch_save = _seconds(_TORCH_SAVE, last.bytes, _BLOCK_ELEMENTS)
    _train(overrides, folder, steps, SAVES * steps + 2)
    first, *later = (sum(each.held_up.values()) for each in saves[:-1])
    figures = [
        gib,
        first,
        max(later),
        max(later) / _step_seconds(events),
        *last.seconds.values(),
        gib / (sum(last.seconds.values()) - last.seconds["rotate"]),
        gib / plain,
        gib / torch_save,
        _load_seconds(folder),
    ]
    shutil.rmtree(folder)
    return f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |"


def _train(overrides: list[str], folder: Path, save_steps: int, steps: int) -> None:
    argv = [sys.executable, "-m", "zpipe", *COMMON, *overrides, f"checkpoint.save_steps={save_steps}"]
    argv += [f"train.max_steps={steps}", f"hydra.run.dir={folder}"]
    subprocess.run(argv, env=os.environ, check=True, stdout=subprocess.DEVNULL)


def _step_seconds(events: list[Event]) -> float:
    """Of the training without its saves. As many seconds for a save are 1 % of 100 steps."""
    return next(each.values["step_time_s"] for each in reversed(events) if isinstance(each, Summary))


def _load_seconds(folder: Path) -> float:
    """From the phase in which the second attempt loads to its first step event."""
    began = 0.0
    for event in _events_of_attempt_2(folder):
        if isinstance(event, PhaseStarted) and event.name == "train":
            began = event.time
        if isinstance(event, StepReached):
            return event.time - began
    return float("nan")


def _events_of_attempt_2(folder: Path) -> Iterator[Event]:
    events, _ = RunEvents.after_attempt(RunFolder(folder), 1)
    yield from events.read_new()


def _seconds(script: str, count: int, block: int) -> float:
    """How long a script takes to bring this many bytes to the disk."""
    file = ROOT / "plain"
    argv = [sys.executable, "-c", script.format(block=block), str(file), str(count)]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=True)
    file.unlink()
    os.sync()
    return float(done.stdout)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="some of the runs")
    parser.add_argument("--cpu", action="store_true", help="a small model on the CPU")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES, help="default: both")
    parser.add_argument("--steps", type=int, help="steps between two saves (default: 100, 50 at stage 3)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
