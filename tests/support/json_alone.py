"""python json_alone.py HOW=RUN_FOLDER …: trains with each ds_config.json, without zpipe.

HOW is initialize or trainer. Prints one JSON object for each: losses, and what the engine says of itself.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

LENGTH = 32
STEPS = 8


def model_of(plan: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**plan["model"]["config"]))


def with_initialize(plan: dict[str, Any], config: str) -> tuple[Any, list[float]]:
    """deepspeed.initialize and the loop of DeepSpeed's own tutorials."""
    engine, *_ = deepspeed.initialize(model=model_of(plan), config=config)
    batch = torch.arange(LENGTH).repeat(engine.train_micro_batch_size_per_gpu(), 1)
    losses = []
    for _ in range(STEPS * engine.gradient_accumulation_steps()):
        loss = engine(input_ids=batch, labels=batch).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss))
    return engine, losses


def with_trainer(plan: dict[str, Any], config: str) -> tuple[Any, list[float]]:
    """transformers' Trainer with the JSON as TrainingArguments.deepspeed."""
    rows = [{"input_ids": torch.arange(LENGTH), "labels": torch.arange(LENGTH)}] * 64
    arguments = TrainingArguments(**plan["training_arguments"], deepspeed=config)
    trainer = Trainer(model=model_of(plan), args=arguments, train_dataset=rows)
    trainer.train()
    return trainer.model_wrapped, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def main(folder: Path, how: str) -> None:
    # Otherwise DeepSpeed builds its collectives in shared memory, even for one rank.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    plan = json.loads((folder / "plan.json").read_text())
    config = str(folder / "ds_config.json")
    engine, losses = {"initialize": with_initialize, "trainer": with_trainer}[how](plan, config)
    said = {
        "losses": losses,
        "stage": engine.zero_optimization_stage(),
        "optimizer": type(engine.basic_optimizer).__name__,
        "scheduler": type(engine.lr_scheduler).__name__,
        "bf16": engine.bfloat16_enabled(),
        "batch": engine.train_batch_size(),
        "clipping": engine.gradient_clipping(),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", DS_ACCELERATOR="cpu")
    for argument in sys.argv[1:]:
        how, _, folder = argument.partition("=")
        main(Path(folder), how)
