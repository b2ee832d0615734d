"""Measures tokens per second and peak memory of ZeRO stages, offloads and precisions, with one run each.

    python -m benchmarks.stages [NAME ...]

Every run is `zpipe` with the overrides below: a model in the shape of Llama 3.2 1B (1.24 billion parameters)
and sequences of 2048 tokens. Tokens per second exclude the first two steps. Prints a Markdown table.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from zpipe.runfolder.folder import RunFolder

COMMON = [
    "model=llama3_1b",
    "data.max_length=2048",
    "data.eval_fraction=0",
    "batch.per_device_train_batch_size=4",
    "train.gradient_checkpointing=true",
    "train.learning_rate=1e-4",
    "train.logging_steps=2",
    "checkpoint=none",
    "checkpoint.save_final_model=false",
]
FAST, SLOW = ["train.max_steps=16"], ["train.max_steps=6"]
TIMEOUT_SECONDS = 240
RUNS: dict[str, list[str]] = {
    "stage 0, bf16": ["stage=0", "precision=bf16", *FAST],
    "stage 1, bf16": ["stage=1", "precision=bf16", *FAST],
    "stage 2, bf16": ["stage=2", "precision=bf16", *FAST],
    "stage 3, bf16": ["stage=3", "precision=bf16", *FAST],
    "stage 2, optimizer on CPU, bf16": ["stage=2", "offload=cpu_optimizer", "precision=bf16", *SLOW],
    "stage 3, optimizer and parameters on CPU, bf16": ["stage=3", "offload=cpu", "precision=bf16", *SLOW],
    "stage 3, optimizer on NVMe, bf16": ["stage=3", "offload=nvme_optimizer", "precision=bf16", *SLOW],
    "stage 3, optimizer and parameters on NVMe, bf16": ["stage=3", "offload=nvme", "precision=bf16", *SLOW],
    "stage 2, fp16, initial scale 2^32": [
        "stage=2",
        "precision=fp16",
        "precision.fp16.initial_scale_power=32",
        "train.max_steps=40",
    ],
}


def run(name: str, overrides: list[str], root: Path) -> dict[str, object]:
    folder = root / name.replace(" ", "-").replace(",", "").replace("^", "")
    argv = [sys.executable, "-m", "zpipe", *COMMON, *overrides, f"hydra.run.dir={folder}"]
    process = subprocess.Popen(argv, env=os.environ)
    try:
        code = process.wait(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        code = process.wait()
    attempt = RunFolder(folder).attempt
    outcome: dict[str, Any] = {"ending": f"exit {code}", "summary": {}}
    if attempt.result.is_file():
        outcome = json.loads(attempt.result.read_text(encoding="utf-8"))
    lines = attempt.events.read_text(encoding="utf-8").splitlines() if attempt.events.is_file() else []
    overflows = [line for line in lines if '"event": "overflow"' in line]
    return {"ending": outcome["ending"], "overflows": len(overflows), **outcome["summary"]}


def main() -> None:
    root = Path("outputs") / "benchmarks" / "stages"
    names = sys.argv[1:] or list(RUNS)
    rows = {name: run(name, RUNS[name], root) for name in names}
    print("| run | ending | tokens/s | GPU peak reserved, GiB | host peak, GiB | overflows |")
    print("|---|---|---:|---:|---:|---:|")
    for name, row in rows.items():
        values = [
            row.get("tokens_per_sec"),
            row.get("memory/peak_reserved_gib"),
            row.get("memory/host_peak_gib"),
        ]
        shown = " | ".join("-" if value is None else f"{float(str(value)):,.1f}" for value in values)
        print(f"| {name} | {row['ending']} | {shown} | {row['overflows']} |")


if __name__ == "__main__":
    main()
