"""The speed of what guides propose: Trainer with ZeRO-2, gradient checkpointing and micro-batch 4.

    python -m benchmarks.guide [STEPS]

No zpipe: benchmarks.handwritten with the ZeRO-2 settings of transformers' guide to DeepSpeed, without its
offload, which is slower. The model is Llama 3.2 1B with random weights, the data random tokens. Prints
tokens per second.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from benchmarks.overhead import make_model, tokens_per_second

ROOT = Path("outputs") / "benchmarks" / "guide"
LENGTH, SEQUENCES, MICRO_BATCH = 2048, 256, 4
DS_CONFIG: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": MICRO_BATCH,
    "gradient_accumulation_steps": 1,
    "gradient_clipping": 1.0,
    "bf16": {"enabled": True},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0},
    },
    "zero_optimization": {
        "stage": 2,
        "allgather_partitions": True,
        "allgather_bucket_size": 5e8,
        "overlap_comm": True,
        "reduce_scatter": True,
        "reduce_bucket_size": 5e8,
        "contiguous_gradients": True,
        "round_robin_gradients": True,
    },
}


def make_data() -> Path:
    """An arrow file of random tokens."""
    tokens = np.random.default_rng(0).integers(0, 256, (SEQUENCES, LENGTH))
    rows = {"input_ids": tokens.tolist(), "labels": tokens.tolist()}
    Dataset.from_dict(rows).save_to_disk(ROOT / "data")
    (arrow,) = (ROOT / "data").glob("*.arrow")
    return arrow


def main() -> None:
    steps = sys.argv[1] if len(sys.argv) > 1 else "40"
    ROOT.mkdir(parents=True, exist_ok=True)
    ds_config, out = ROOT / "ds_config.json", ROOT / "rows.json"
    ds_config.write_text(json.dumps(DS_CONFIG), encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    script = ["-m", "benchmarks.handwritten", str(ds_config), str(make_model("llama3_1b")), str(make_data())]
    subprocess.run([*torchrun, *script, steps, str(out)], check=True)
    rows = [tuple(row) for row in json.loads(out.read_text(encoding="utf-8"))]
    print(f"the guide's settings: {tokens_per_second(rows, MICRO_BATCH * LENGTH):,.0f} tokens/s")


if __name__ == "__main__":
    main()
