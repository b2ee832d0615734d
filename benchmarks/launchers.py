"""Compares the launchers on all GPUs of this machine: the same run under each, in turn.

    python -m benchmarks.launchers [ROUNDS]           1.24 billion parameters, ZeRO-2, bf16
    python -m benchmarks.launchers [ROUNDS] --tiny    a small model on two processes of the CPU

Tokens per second are counted from the third to the last logged step, with the clock of rank 0. Prints a line
for each run, the ratios to torchrun, and the largest difference of the losses.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.overhead import Row, largest_difference, tokens_per_second
from zpipe.runfolder.folder import RunFolder

ROOT = Path("outputs") / "benchmarks" / "launchers"
LAUNCHERS = ("torchrun", "deepspeed", "accelerate")
COMMON = [
    "data.eval_fraction=0",
    "stage=2",
    "train.logging_steps=2",
    "checkpoint=none",
    "checkpoint.save_final_model=false",
    "tracking.enabled=false",
]
GPUS = [
    "model=llama3_1b",
    "precision=bf16",
    "data.max_length=2048",
    "batch.per_device_train_batch_size=4",
    "train.gradient_checkpointing=true",
    "train.max_steps=60",
]
TINY = ["launcher.device=cpu", "launcher.nproc_per_node=2", "data.max_length=128", "train.max_steps=24"]


def run(launcher: str, settings: list[str], number: int) -> tuple[list[Row], float]:
    """The logged steps, and tokens per second."""
    folder = ROOT / f"{launcher}-{number}"
    argv = [sys.executable, "-m", "zpipe", *COMMON, *settings, f"launcher={launcher}"]
    subprocess.run([*argv, f"hydra.run.dir={folder}"], check=True, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in RunFolder(folder).attempt.events.open(encoding="utf-8")]
    rows = [
        (event["step"], event["time"], event["values"]["loss"])
        for event in events
        if event["event"] == "metrics" and "loss" in event["values"]
    ]
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    tokens = plan["ds_config"]["train_batch_size"] * plan["experiment"]["data"]["max_length"]
    return rows, tokens_per_second(rows, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    settings = TINY if options.tiny else GPUS
    rows: dict[str, list[list[Row]]] = {name: [] for name in LAUNCHERS}
    speeds: dict[str, list[float]] = {name: [] for name in LAUNCHERS}
    for number in range(options.rounds):
        for name in LAUNCHERS:
            logged, speed = run(name, settings, number)
            rows[name].append(logged)
            speeds[name].append(speed)
            print(f"round {number}: {name:10} {speed:,.0f} tokens/s", flush=True)
    for name in LAUNCHERS[1:]:
        ratios = [one / other for one, other in zip(speeds[name], speeds["torchrun"], strict=True)]
        difference = largest_difference(rows[name], rows["torchrun"])
        shown = ", ".join(f"{ratio:.4f}" for ratio in ratios)
        print(f"{name} / torchrun: {shown}; median {statistics.median(ratios):.4f}; losses {difference:.1e}")
    print(f"torchrun's own runs: losses {largest_difference(rows['torchrun'], rows['torchrun']):.1e}")


if __name__ == "__main__":
    main()
