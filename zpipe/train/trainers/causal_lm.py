"""Trains a causal language model with transformers' Trainer on DeepSpeed, as specified by the plan."""

import copy
import dataclasses
from datetime import timedelta
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from zpipe.checkpoints.folders import bytes_below
from zpipe.checkpoints.shape import shape_of
from zpipe.plans.plan import Plan
from zpipe.runfolder.attempt_start import AttemptStart
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.events import ModelSaved, Stopped, Summary
from zpipe.runfolder.figures import predicted_figures
from zpipe.runfolder.plan_file import folder_of
from zpipe.train.callbacks import EventCallback
from zpipe.train.checkpoint_writer import CheckpointWriter
from zpipe.train.collate import collator_of
from zpipe.train.data import Sequences
from zpipe.train.kernels import attention_kernel, compile_regions
from zpipe.train.mended import mended_optimizers
from zpipe.train.metrics import peaks_over_ranks
from zpipe.train.model import load_model
from zpipe.train.process_group import join_group
from zpipe.train.ranks import Rank
from zpipe.train.safe_loading import restrict_unpickling
from zpipe.train.stopping import StopCallback
from zpipe.train.trainers.resumable import ResumableTrainer, saved_once
from zpipe.train.verify_weights import check_saved_model


class CausalLMTraining:
    """One training run. Every rank must call the same methods in the same order."""

    def __init__(
        self,
        plan: Plan,
        tokenizer: Any,
        sequences: Sequences,
        rank: Rank,
        reporter: Reporter,
        start: AttemptStart,
    ) -> None:
        self._plan = plan
        self._start = start
        self._reporter = reporter
        self._rank = rank
        transformers_logging.disable_progress_bar()
        # Must precede the model: zero.Init assumes a world size of 1 until DeepSpeed's communication is
        # initialized. Must precede the arguments: on CUDA they would open torch's default store.
        join_group(plan, rank, timedelta(seconds=plan.training_arguments["ddp_timeout"]))
        # Must precede the model too: transformers partitions a stage 3 model only while the arguments exist.
        arguments = TrainingArguments(
            **_with_current_names(plan.training_arguments), deepspeed=copy.deepcopy(plan.ds_config)
        )
        model = load_model(plan, tokenizer, arguments.device, reporter.notice)
        if plan.model.random_init:
            reporter.notice("the model starts from random weights, not from a pretrained model")
        self._callback = EventCallback(plan, reporter, sequences.mean_tokens)
        self._stop = StopCallback(plan, rank, start)
        self._trainer = ResumableTrainer(
            writer=CheckpointWriter(plan, rank, start, reporter.report, reporter.notice),
            shape=shape_of(plan),
            reporter=reporter,
            model=model,
            args=arguments,
            train_dataset=sequences.train,
            eval_dataset=sequences.held_out,
            data_collator=collator_of(plan, tokenizer),
            processing_class=tokenizer,
            callbacks=[self._callback, self._stop],
        )
        for printing in (PrinterCallback, ProgressCallback):
            self._trainer.remove_callback(printing)
        compile_regions(self._trainer, plan)
        self._callback.trainer = self._trainer
        self._values: dict[str, float] = {}

    def train(self) -> bool:
        """Trains for the planned steps or epochs; returns False if it stopped before because it was asked to.

        Raises NothingLearnedError if no step changed the model.
        """
        restrict_unpickling()
        with mended_optimizers(), attention_kernel(self._plan):
            result = self._trainer.train_from(self._start.checkpoint)
        if self._stop.reason is not None:
            step, saves = int(result.global_step), self._stop.saves
            self._reporter.report(Stopped(step=step, saved=saves, reason=self._stop.reason))
            return False
        self._callback.check_training(int(result.global_step))
        self._values |= {
            "train_loss": float(result.training_loss),
            "steps": int(result.global_step),
            "train_runtime_s": float(result.metrics["train_runtime"]),
        }
        return True

    def evaluate(self) -> None:
        """Computes the loss on the held-out sequences, unless training already evaluated the final model."""
        step = model_step(self._trainer.state, self._trainer.args)
        if step not in eval_losses(self._trainer.state):
            with attention_kernel(self._plan):
                self._trainer.evaluate()
            step = self._trainer.state.global_step
        self._values["eval_loss"] = eval_losses(self._trainer.state)[step]

    def save(self) -> None:
        """Saves the model and its tokenizer for from_pretrained, and verifies the weights."""
        folder = folder_of(self._plan).model
        with saved_once(self._trainer.args):
            self._trainer.save_model(str(folder))
        if not self._rank.is_main:
            return
        # A pickle of TrainingArguments: unsafe to share, and the plan has the same settings.
        (folder / "training_args.bin").unlink(missing_ok=True)
        check_saved_model(folder, self._trainer.model)
        step = model_step(self._trainer.state, self._trainer.args)
        self._reporter.report(ModelSaved(step=step, path=folder.name, bytes=bytes_below(folder)))

    def summarize(self) -> None:
        """Reports the final metrics of the run. A collective, because it includes the peaks of all ranks."""
        values = {**self._values, **predicted_figures(self._plan.memory), **peaks_over_ranks()}
        if self._callback.final_loss is not None:
            values["final_loss"] = self._callback.final_loss
        steady = self._callback.steady_throughput()
        values |= {name.removeprefix("throughput/"): value for name, value in steady.items()}
        self._reporter.report(Summary(values=values))


def model_step(state: Any, arguments: Any) -> int:
    """The step of the final weights: that of the best checkpoint if it was loaded, else the last."""
    best = state.best_model_checkpoint if arguments.load_best_model_at_end else None
    return int(best.rpartition("-")[2]) if best else int(state.global_step)


def eval_losses(state: Any) -> dict[int, float]:
    """The latest loss on the held-out sequences, by evaluated step."""
    history = state.log_history
    return {entry["step"]: float(entry["eval_loss"]) for entry in history if "eval_loss" in entry}


def _with_current_names(arguments: dict[str, Any]) -> dict[str, Any]:
    """transformers 5.23 renamed gradient_checkpointing and warns about the old name, the only one in 5.17."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    renamed = {
        name: name.replace("gradient_", "activation_") for name in arguments if "checkpointing" in name
    }
    return {renamed[name] if renamed.get(name) in known else name: value for name, value in arguments.items()}
