"""Ends a run whose losses or gradients are no longer finite.

The checks use values that are equal on all ranks: the loss is gathered before it is logged, and an overflow
is reduced before a step is skipped. So every rank stops at the same step without communication.
"""

import math
from typing import Any

from zpipe.schema.precision import Precision
from zpipe.train.metrics import SkippedStep


class NonFiniteLossError(RuntimeError):
    """Too many steps without a finite loss or gradient."""


class LossScaleStuckError(RuntimeError):
    """Too many consecutive overflows at the lowest loss scale."""


class NothingLearnedError(RuntimeError):
    """Training ended without a step that changed a parameter."""


class PrecisionHealth:
    """Counts nonfinite losses and skipped steps, and raises when a limit of the plan is reached."""

    def __init__(self, precision: Precision, is_fp16: bool) -> None:
        self._is_fp16 = is_fp16
        self._max_at_min_scale = precision.max_skipped_steps_at_min_scale
        self._max_nonfinite = precision.max_nonfinite_steps
        self._skipped = 0
        self._skipped_since_log = False
        self._at_min_scale = 0
        self._bad_losses = 0
        self._last_finite_loss = 0

    def after_step(self, skip: SkippedStep | None) -> None:
        """Checks an optimizer step; raises NonFiniteLossError or LossScaleStuckError."""
        self._skipped = 0 if skip is None else self._skipped + 1
        self._skipped_since_log = self._skipped_since_log or skip is not None
        self._at_min_scale = self._at_min_scale + 1 if skip is not None and skip.at_min_scale else 0
        if self._is_fp16:
            # fp16 lowers the scale by skipping steps, so only skipped steps at the minimum count.
            if _reached(self._at_min_scale, self._max_at_min_scale):
                raise LossScaleStuckError(self._stuck_message(skip))
        elif _reached(self._skipped, self._max_nonfinite):
            raise NonFiniteLossError(f"{self._skipped} steps in a row were skipped: no gradient was finite")

    def after_log(self, step: int, loss: float) -> None:
        """Checks a logged loss; raises NonFiniteLossError once consecutive bad ones span too many steps."""
        if math.isfinite(loss):
            self._bad_losses, self._last_finite_loss, self._skipped_since_log = 0, step, False
            return
        self._bad_losses += 1
        steps = step - self._last_finite_loss
        # A logged loss is a mean that one bad step makes nonfinite, so a second one is needed.
        if self._bad_losses > 1 and _reached(steps, self._max_nonfinite):
            raise NonFiniteLossError(f"the loss has been {loss} for {steps} steps")

    def after_training(self, steps: int, skipped: int) -> None:
        """Checks the whole training; raises NothingLearnedError or NonFiniteLossError."""
        if steps == 0:
            raise NothingLearnedError("no step was trained")
        if skipped >= steps:
            raise NothingLearnedError(
                f"each of the {steps} steps was skipped, because no gradient was finite"
            )
        # After a skipped step the parameters are as before, so its loss says nothing about them.
        if self._bad_losses and not self._skipped_since_log and self._max_nonfinite is not None:
            raise NonFiniteLossError("the last loss of the training is not finite")

    def _stuck_message(self, skip: SkippedStep | None) -> str:
        scale = "?" if skip is None or skip.scale_after is None else f"{skip.scale_after:g}"
        return f"{self._at_min_scale} steps in a row overflowed at the lowest loss scale, {scale}"


def disable_min_scale_error(engine: Any) -> None:
    """Leaves the decision to PrecisionHealth: DeepSpeed raises at the first overflow at the lowest scale."""
    scaler: Any = getattr(engine.optimizer, "loss_scaler", None)
    if scaler is not None and hasattr(scaler, "raise_error_at_min_scale"):
        scaler.raise_error_at_min_scale = False


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit
