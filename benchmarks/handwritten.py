r"""A handwritten training script: transformers' Trainer and a DeepSpeed JSON, without zpipe.

    torchrun --nproc-per-node 1 -m benchmarks.handwritten \
        DS_CONFIG.json MODEL DATA.arrow STEPS OUT.json [deterministic]

benchmarks.overhead compares it to zpipe. Writes the step, time and loss of each log to OUT.json.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments


class LossLog(TrainerCallback):
    """Collects the step, Unix time in seconds and loss of each log."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, *, logs: dict[str, float], **more: Any) -> None:
        if "loss" in logs:
            self.rows.append((state.global_step, time.time(), logs["loss"]))


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    names = ("input_ids", "labels")
    return {name: torch.from_numpy(np.stack([row[name] for row in rows]).astype(np.int64)) for name in names}


def main(ds_config: str, model_folder: str, arrow: str, steps: str, out: str, *flags: str) -> None:
    config = json.loads(Path(ds_config).read_text(encoding="utf-8"))
    optimizer = config["optimizer"]["params"]
    arguments = TrainingArguments(
        output_dir=str(Path(out).parent / "handwritten"),
        deepspeed=config,
        bf16=config["bf16"]["enabled"],
        per_device_train_batch_size=config["train_micro_batch_size_per_gpu"],
        gradient_accumulation_steps=config["gradient_accumulation_steps"],
        learning_rate=optimizer["lr"],
        max_grad_norm=config["gradient_clipping"],
        max_steps=int(steps),
        lr_scheduler_type="linear",
        logging_steps=2,
        logging_first_step=True,
        gradient_checkpointing=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=42,
        full_determinism="deterministic" in flags,
    )
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
    model.config.use_cache = False
    losses = LossLog()
    data = Dataset.from_file(arrow).with_format("numpy")
    Trainer(model, arguments, train_dataset=data, data_collator=collate, callbacks=[losses]).train()
    Path(out).write_text(json.dumps(losses.rows), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
