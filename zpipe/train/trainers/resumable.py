"""transformers' Trainer with checkpoints that are complete or absent, and from which a run goes on."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from zpipe.checkpoints.manifest import read_manifest
from zpipe.checkpoints.shape import Shape, is_distributed_anew, saved_shape
from zpipe.runfolder.event_file import Reporter
from zpipe.train.cached_memory import release_cached_memory
from zpipe.train.checkpoint_writer import CheckpointWriter
from zpipe.train.engine_settings import scheduler_of
from zpipe.train.host_buffers import CopiesIntoBuffers, HostBuffers
from zpipe.train.nvme_state import restore_nvme_state
from zpipe.train.reshaping import load_reshaped
from zpipe.train.save import Save
from zpipe.train.schedule import apply_schedule
from zpipe.train.state_files import redirected_to
from zpipe.train.trainers.ahead import AheadTrainer
from zpipe.train.trainers.other_ranks import combined_losses, loss_file, restore_random_states
from zpipe.train.trainers.shown_progress import ShownProgress


class ResumableTrainer(AheadTrainer):
    """`writer` writes the checkpoints; transformers' own rotation is not used.

    `shape` is that of this run. A checkpoint of another shape is distributed anew while it is loaded.
    """

    def __init__(
        self, *args: Any, writer: CheckpointWriter, shape: Shape, reporter: Reporter, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        # With a limit of 1, transformers removes the newest checkpoint at the end, and leaves the best alone.
        self.args.save_total_limit = None
        self.writer = writer
        self._shape, self._reporter = shape, reporter
        self._resumed_from: Path | None = None
        self._first_step = 0
        """Of this attempt."""
        self._saved = shape
        """The shape of the checkpoint that the run goes on from."""

    def train_from(self, checkpoint: str | None) -> Any:
        """transformers' `train` from a checkpoint that was verified, or from the beginning."""
        if checkpoint:
            self._resumed_from = Path(checkpoint)
            self._saved = saved_shape(read_manifest(self._resumed_from))
        try:
            result = self.train(resume_from_checkpoint=checkpoint)
        except Exception:
            self.writer.finish_anyhow()
            raise
        self.writer.finish()
        self.writer.rotate(self.state.global_step, self._checkpoints_to_keep())
        return result

    def finish_loading(self) -> None:
        """Restores what DeepSpeed and transformers do not. Call it when the engine exists, before a step.

        transformers has reset the losses since the last log entry, and their sum, just before (trainer.py,
        _inner_training_loop).
        """
        self._first_step = self.state.global_step
        _call_before_steps(self.model_wrapped, self._before_update)
        if self._resumed_from is None:
            return
        apply_schedule(scheduler_of(self.model_wrapped, self))
        restore_nvme_state(self.model_wrapped, self._resumed_from)
        losses = self._saved_losses(self._resumed_from)
        if losses is not None:
            self._restore_running_loss(losses)

    def _before_update(self) -> None:
        if self.state.global_step == self._first_step:
            release_cached_memory()  # the optimizer states are created now
        self.writer.before_step()

    def _saved_losses(self, checkpoint: Path) -> dict[str, Any] | None:
        if self._saved.processes != self._shape.processes:
            return combined_losses(checkpoint, self._saved.processes)
        file = checkpoint / loss_file(self.args.process_index)
        saved: dict[str, Any] | None = (
            json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        )
        return saved

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any
    ) -> Any:
        """Loads a checkpoint of another shape in DeepSpeed's place, which refuses it."""
        if not is_distributed_anew(self._saved, self._shape):
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        self._load_reshaped(Path(resume_from_checkpoint), self._saved)
        self._load_optimizer_and_scheduler(resume_from_checkpoint)
        return prepared

    def _load_reshaped(self, checkpoint: Path, saved: Shape) -> None:
        with ShownProgress(self._reporter, f"{checkpoint.name} of {saved}, for {self._shape}") as progress:
            load_reshaped(self.model_wrapped, checkpoint, progress)

    def _load_best_model(self) -> None:
        """The best checkpoint may be of another shape than this attempt, and may still be being written."""
        self.writer.finish()
        best = Path(self.state.best_model_checkpoint)
        saved = saved_shape(read_manifest(best))
        if is_distributed_anew(saved, self._shape):
            self._load_reshaped(best, saved)
        else:
            super()._load_best_model()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None or self._saved.processes == self._shape.processes:
            super()._load_rng_state(checkpoint)
            return
        rank, step = self.args.process_index, self.state.global_step
        restore_random_states(Path(checkpoint), self._saved.processes, rank, self.args.seed, step)

    def _restore_running_loss(self, saved: dict[str, Any]) -> None:
        self._tr_loss = torch.tensor(float.fromhex(saved["window"]), device=self.args.device)
        self._total_loss_scalar = float.fromhex(saved["total"])
        self._globalstep_last_logged = int(saved["last_logged"])
        # transformers 5.23 divides the total by the steps of this attempt, 5.17 by all steps.
        self._initial_global_step = 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Replaces transformers' method, which writes under the final name (trainer.py, _save_checkpoint)."""
        del model, trial
        self.writer.finish()  # the best checkpoint must have its name before it is looked for
        self.store_flos()
        keep = self._checkpoints_to_keep()
        self.state.best_model_checkpoint = str(keep[0]) if keep else None
        epoch = float(self.state.epoch or 0)
        writing = self.writer.writing(self.state.global_step, epoch, keep, self._unsettled_storages())
        with writing as save, redirected_to(save):
            self._write(save)

    def _unsettled_storages(self) -> set[int] | None:
        """Those that change before the next optimizer step: buffers in the forward pass; None: any may.

        SuperOffload's optimizer runs during the backward pass, and DeepCompile moves states to and fro.
        """
        engine = self.model_wrapped
        if engine.super_offload() or engine.is_deepcompile_active():
            return None
        return {buffer.untyped_storage().data_ptr() for buffer in engine.module.buffers()}

    def _write(self, save: Save) -> None:
        folder = save.folder
        with saved_once(self.args):
            self._save_weights(folder, save.gathered)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
            self._save_running_loss(folder)
            self._save_latest(folder)
        if self.args.should_save:
            self._collect_callback_states()
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
            # A pickle of TrainingArguments: unsafe to share, and the plan has the same settings.
            (folder / "training_args.bin").unlink(missing_ok=True)

    def _save_weights(self, folder: Path, gathered: HostBuffers) -> None:
        """Where each rank has all weights, they are not cloned first, as transformers does."""
        config = self.accelerator.deepspeed_plugin.deepspeed_config
        is_sharded = config["zero_optimization"]["stage"] == 3 or "tensor_parallel" in config
        if is_sharded:
            with CopiesIntoBuffers(gathered):
                self.save_model(str(folder), _internal_call=True)
        else:
            model = self.accelerator.unwrap_model(self.model_wrapped)
            self._save(str(folder), state_dict=model.state_dict())

    def _save_latest(self, folder: Path) -> None:
        """DeepSpeed 0.19 writes it on node 0 alone, and then finds no checkpoint on the other nodes."""
        latest = folder / "latest"
        if self.args.should_save and not latest.exists():
            tag = next(folder.glob("global_step*")).name
            latest.write_text(tag, encoding="utf-8")

    def _save_running_loss(self, folder: Path) -> None:
        values = {
            "window": float(self._tr_loss.item()).hex(),
            "total": float(self._total_loss_scalar).hex(),
            "last_logged": self._globalstep_last_logged,
        }
        (folder / loss_file(self.args.process_index)).write_text(json.dumps(values), encoding="utf-8")

    def _best_checkpoint(self) -> Path | None:
        """The checkpoint of the best evaluation so far: an earlier one, or the one that is being written."""
        best, step = self.state.best_global_step, self.state.global_step
        if not best:
            return None
        folder = self.writer.folder_of(best)
        if best == step or folder.is_dir():
            return folder
        return Path(self.state.best_model_checkpoint) if self.state.best_model_checkpoint else None

    def _checkpoints_to_keep(self) -> list[Path]:
        """The best one, if there is one: rotation must not remove it."""
        best = self._best_checkpoint()
        return [best] if best else []

    def _collect_callback_states(self) -> None:
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                name = type(callback).__name__
                kept, state = self.state.stateful_callbacks.get(name), callback.state()
                if isinstance(kept, list):
                    kept.append(state)
                else:
                    self.state.stateful_callbacks[name] = state

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Begins no epoch if every step is done: transformers would train one step beyond the last."""
        epochs, batches = super()._init_training_state(*args, **kwargs)
        max_steps, num_train_epochs = args[0], args[2]
        return (num_train_epochs, 0) if self.state.global_step >= max_steps else (epochs, batches)


@contextmanager
def saved_once(args: TrainingArguments) -> Iterator[None]:
    """Rank 0 alone saves weights, whatever `save_on_each_node` says: at stage 3 only rank 0 has them all."""
    given, args.save_on_each_node = args.save_on_each_node, False
    try:
        yield
    finally:
        args.save_on_each_node = given


def _call_before_steps(engine: Any, call: Callable[[], None]) -> None:
    step = engine.step

    def step_after_call(*args: Any, **kwargs: Any) -> Any:
        call()
        return step(*args, **kwargs)

    engine.step = step_after_call
