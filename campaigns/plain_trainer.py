"""Trains with transformers' Trainer and DeepSpeed alone, and prints the losses of all steps as JSON.

torchrun --nproc-per-node N -m campaigns.plain_trainer FOLDER STEPS SEED [resume]
"""

import json
import sys
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

SAVE_STEPS = 3
MARK = "losses: "
DEEPSPEED = {
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": 1,
    "zero_optimization": {"stage": 2},
    "zero_allow_untested_optimizer": True,
}
CONFIG = LlamaConfig(
    vocab_size=264, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
)


def sequences() -> list[dict[str, Any]]:
    """The same random tokens for every run."""
    tokens = torch.randint(0, 264, (64, 64), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in tokens]


def main(folder: str, steps: str, seed: str, resume: str = "") -> None:
    set_seed(int(seed))
    arguments = TrainingArguments(
        output_dir=folder,
        deepspeed=DEEPSPEED,
        per_device_train_batch_size=2,
        max_steps=int(steps),
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        save_steps=SAVE_STEPS,
        save_total_limit=3,
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
        seed=int(seed),
    )
    trainer = Trainer(LlamaForCausalLM(CONFIG), arguments, train_dataset=sequences())
    trainer.train(resume_from_checkpoint=True if resume else None)
    losses = [[entry["step"], entry["loss"]] for entry in trainer.state.log_history if "loss" in entry]
    if trainer.is_world_process_zero():
        print(MARK + json.dumps(losses), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
