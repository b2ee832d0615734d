"""Compares the speed of zpipe to a handwritten script with the same JSON, model and data.

    python -m benchmarks.overhead [PAIRS]                  on a GPU: 1.24 billion parameters, ZeRO-2, bf16
    python -m benchmarks.overhead [PAIRS] tiny             a small model, for machines without a GPU
    python -m benchmarks.overhead [PAIRS] --deterministic  full_determinism on both sides, to compare losses

Both sides start from the same saved weights and run in turn, A B A B …. Tokens per second are counted from
the third to the last logged step, with the wall clock of each process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from zpipe.machine.hardware import detect
from zpipe.runfolder.folder import RunFolder

ROOT = Path("outputs") / "benchmarks" / "overhead"
SIZES: dict[str, dict[str, Any]] = {
    "llama3_1b": {"overrides": ["data.max_length=2048", "batch.per_device_train_batch_size=4"], "steps": 100},
    "tiny": {"overrides": ["data.max_length=128", "batch.per_device_train_batch_size=4"], "steps": 24},
}
Row = tuple[int, float, float]
"""Step, Unix time in seconds and loss of a log."""


def make_model(preset: str) -> Path:
    """Saves random weights of the preset once, for both sides to load."""
    folder = ROOT / f"model-{preset}"
    if not (folder / "config.json").is_file():
        code = (
            "import sys, yaml, torch; from transformers import AutoConfig, AutoModelForCausalLM, set_seed;"
            "text = yaml.safe_load(open(sys.argv[1])); config = text.get('model', text)['config'];"
            "kind = config.pop('model_type'); set_seed(1);"
            "torch.set_default_device('cuda' if torch.cuda.is_available() else 'cpu');"
            "AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config), dtype=torch.bfloat16)"
            ".save_pretrained(sys.argv[2])"
        )
        subprocess.run([sys.executable, "-c", code, f"conf/model/{preset}.yaml", str(folder)], check=True)
    return folder


def run_zpipe(preset: str, model: Path, number: int, deterministic: bool) -> tuple[Path, list[Row]]:
    folder = ROOT / f"zpipe-{preset}-{number}"
    overrides = [
        f"model.name_or_path={model.absolute()}",
        "model.tokenizer=bytes",
        "data.eval_fraction=0",
        *SIZES[preset]["overrides"],
        f"train.max_steps={SIZES[preset]['steps']}",
        "train.gradient_checkpointing=true",
        "train.logging_steps=2",
        "train.learning_rate=1e-4",
        f"train.full_determinism={deterministic}",
        "stage=2",
        "precision=bf16",
        "checkpoint=none",
        "checkpoint.save_final_model=false",
        f"hydra.run.dir={folder}",
    ]
    subprocess.run([sys.executable, "-m", "zpipe", *overrides], check=True, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in RunFolder(folder).attempt.events.open(encoding="utf-8")]
    rows = [
        (event["step"], event["time"], event["values"]["loss"])
        for event in events
        if event["event"] == "metrics" and "loss" in event["values"]
    ]
    return folder, rows


def run_handwritten(preset: str, model: Path, ds_config: Path, number: int, deterministic: bool) -> list[Row]:
    (arrow,) = (ROOT / "cache" / "zpipe").glob("*.arrow")
    out = ROOT / f"handwritten-{preset}-{number}.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    script = ["-m", "benchmarks.handwritten", str(ds_config), str(model), str(arrow)]
    argv = [*torchrun, *script, str(SIZES[preset]["steps"]), str(out), *(["deterministic"] * deterministic)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [tuple(row) for row in json.loads(out.read_text(encoding="utf-8"))]


def tokens_per_second(rows: list[Row], tokens_per_step: int) -> float:
    first, last = rows[2], rows[-1]
    return (last[0] - first[0]) * tokens_per_step / (last[1] - first[1])


def largest_difference(one: list[list[Row]], other: list[list[Row]]) -> float:
    """The largest difference in loss between any run of one side and any run of the other."""
    pairs = [(a, b) for run in one for other_run in other for a, b in zip(run, other_run, strict=True)]
    return max((abs(a[2] - b[2]) for a, b in pairs), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", nargs="?", type=int, default=3)
    parser.add_argument("preset", nargs="?", choices=list(SIZES), default="llama3_1b")
    parser.add_argument("--deterministic", action="store_true")
    options = parser.parse_args()
    preset, deterministic = options.preset, options.deterministic
    if not detect().gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["HF_DATASETS_CACHE"] = str((ROOT / "cache").absolute())
    model = make_model(preset)
    ours: list[list[Row]] = []
    theirs: list[list[Row]] = []
    ratios: list[float] = []
    for number in range(options.pairs):
        folder, rows = run_zpipe(preset, model, number, deterministic)
        ours.append(rows)
        theirs.append(run_handwritten(preset, model, folder / "ds_config.json", number, deterministic))
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        tokens = plan["ds_config"]["train_batch_size"] * plan["experiment"]["data"]["max_length"]
        our_speed, their_speed = tokens_per_second(ours[-1], tokens), tokens_per_second(theirs[-1], tokens)
        ratios.append(our_speed / their_speed)
        print(f"pair {number}: zpipe {our_speed:,.0f}, handwritten {their_speed:,.0f} tokens/s")
    print_losses(ours, theirs)
    print(f"zpipe / handwritten, tokens per second: {', '.join(f'{ratio:.4f}' for ratio in ratios)}")
    print(f"median {statistics.median(ratios):.4f}")


def print_losses(ours: list[list[Row]], theirs: list[list[Row]]) -> None:
    print(f"losses of {len(ours[0])} logged steps (first {ours[0][0][2]:.4f}) differ by at most")
    print(f"    {largest_difference(ours, theirs):.2e} between the two sides")
    print(f"    {largest_difference(ours, ours):.2e} between zpipe's own runs")
    print(f"    {largest_difference(theirs, theirs):.2e} between the handwritten script's own runs")


if __name__ == "__main__":
    main()
