"""Reports what the Trainer does as events, at almost no cost per step."""

import gc
import math
import time
from typing import Any

from transformers import TrainerCallback

from zpipe.plans.plan import Plan
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.events import Metrics, NonFiniteLoss, Overflow, StepReached
from zpipe.train.cached_memory import release_cached_memory
from zpipe.train.engine import check_engine
from zpipe.train.health import PrecisionHealth, disable_min_scale_error
from zpipe.train.metrics import (
    WARM_UP_STEPS,
    LossScale,
    SkippedStep,
    Stopwatch,
    Throughput,
    read_memory,
    wait_for_device,
)

STEP_EVENT_SECONDS = 1.0


class EventCallback(TrainerCallback):
    """Reports events on rank 0; on the other ranks it only keeps the figures that the summary needs."""

    def __init__(self, plan: Plan, reporter: Reporter, tokens_per_sequence: float) -> None:
        self.trainer: Any = None
        """Set once the Trainer exists; its `model_wrapped` is the engine while training."""
        self.final_loss: float | None = None
        self.steady = Stopwatch()
        self._plan = plan
        self._reporter = reporter
        self._sequences = plan.sequences_per_pass
        self._throughput = Throughput(tokens_per_sequence, plan.launch.world_size, plan.flops)
        self._window = Stopwatch()
        is_fp16 = plan.engine.dtype == "fp16"
        self._loss_scale = LossScale(is_fp16)
        self._health = PrecisionHealth(plan.experiment.precision, is_fp16)
        self._last_step_event = 0.0
        self._learning_rate: float | None = None
        self._reported_step = 0
        self._epoch_step: int | None = None
        self._steps = 0
        """Of this attempt."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        check_engine(self.trainer, self._plan, self._reporter)
        self.trainer.finish_loading()
        # An attempt that begins at the last step trains nothing that could be logged.
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        self.final_loss = losses[-1] if losses else None
        disable_min_scale_error(self.trainer.model_wrapped)
        release_cached_memory()
        self._report_step(state.global_step, state.max_steps)
        self._window.restart()
        self.steady.restart()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._loss_scale.begin(self.trainer.model_wrapped)
        self._learning_rate = current_learning_rate(self.trainer.model_wrapped)

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.writer.check()
        # A heartbeat after each micro-batch: a step with many of them reports nothing else for long.
        self._report_step(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.writer.check()
        step = state.global_step
        micro_batches = getattr(
            self.trainer, "current_gradient_accumulation_steps", args.gradient_accumulation_steps
        )
        self._steps += 1
        is_warm = self._steps == WARM_UP_STEPS and step < state.max_steps
        if is_warm or step == state.max_steps or control.should_save or control.should_evaluate:
            wait_for_device()  # what follows is not time of this step
        for watch in (self._window, self.steady):
            watch.add_step(self._sequences * micro_batches)
        if self._steps == 1:
            release_cached_memory()
        if is_warm:
            freeze_gc()
            self.steady.restart()
        skip = self._loss_scale.end(self.trainer.model_wrapped)
        if skip is not None:
            self._report_overflow(step, skip)
        # At a step that is logged, on_log reports the scale.
        elif self._loss_scale.changed and not control.should_log:
            self._metrics(step, self._loss_scale.values())
        self._report_step(step, state.max_steps)
        self._health.after_step(skip)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        values = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "train_runtime" in values and state.global_step < state.max_steps:
            return  # the means of a training that stopped early
        if state.global_step == self._epoch_step:
            values.pop("epoch", None)  # transformers adds it to each of several entries of a step
        self._epoch_step = state.global_step
        if "loss" in values:
            values |= self._training_figures(values["loss"])
            # transformers reads it before or after its scheduler steps, depending on the optimizer.
            if self._learning_rate is not None:
                values["learning_rate"] = self._learning_rate
        self._metrics(state.global_step, values)
        if "loss" in values:
            self._check_loss(state.global_step, values)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # A heartbeat: a long evaluation reports nothing else.
        self._report_step(state.global_step, state.max_steps)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._leave_out()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._leave_out()

    def check_training(self, steps: int) -> None:
        """Raises NothingLearnedError or NonFiniteLossError if the trained model is of no use."""
        self._health.after_training(steps, self._loss_scale.skipped)

    def steady_throughput(self) -> dict[str, float]:
        """Throughput of the whole run without its first steps, evaluation and saving."""
        return self._throughput.read(self.steady)

    def _training_figures(self, loss: float) -> dict[str, float]:
        self.final_loss = loss
        # The loss was just read from the device, so every kernel of the window has finished.
        self._window.mark()
        self.steady.mark()
        figures = {**self._throughput.read(self._window), **read_memory(), **self._loss_scale.values()}
        self._window.restart()
        return figures

    def _leave_out(self) -> None:
        self._window.exclude()
        self.steady.exclude()

    def _check_loss(self, step: int, values: dict[str, Any]) -> None:
        """Reports a loss that is not finite, and keeps it out of the losses that follow."""
        loss = values["loss"]
        if not math.isfinite(loss):
            norm = values.get("grad_norm")
            self._reporter.report(NonFiniteLoss(step=step, loss=loss, grad_norm=norm))
            # transformers resets the sum with `sum -= sum`, which keeps a NaN forever.
            running_sum = getattr(self.trainer, "_tr_loss", None)
            if running_sum is not None:
                running_sum.zero_()
        self._health.after_log(step, loss)

    def _report_overflow(self, step: int, skip: SkippedStep) -> None:
        self._reporter.report(
            Overflow(
                step=step,
                scale_before=skip.scale_before,
                scale_after=skip.scale_after,
                skipped_total=skip.skipped_total,
            )
        )

    def _report_step(self, step: int, steps: int) -> None:
        now = time.monotonic()
        if now - self._last_step_event >= STEP_EVENT_SECONDS or (
            step == steps and self._reported_step < step
        ):
            self._reported_step = step
            self._last_step_event = now
            self._reporter.report(StepReached(step=step, of=steps))

    def _metrics(self, step: int, values: dict[str, Any]) -> None:
        if values:
            self._reporter.report(Metrics(step=step, values=values))


def current_learning_rate(engine: Any) -> float | None:
    """The learning rate of the first group of parameters, which the next step uses."""
    groups = getattr(engine.optimizer, "param_groups", None)
    return float(groups[0]["lr"]) if groups else None


def freeze_gc() -> None:
    """Excludes the objects that live until the end from Python's garbage collection.

    Modules, model and engine are over a million objects: each full collection would stop the training for a
    third of a second and free none of them.
    """
    gc.collect()
    gc.freeze()
