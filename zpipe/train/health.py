"""Whether the numbers are still numbers: ends a run that can learn nothing more.

Decided from values that are equal on all ranks (the loss is gathered before it is logged, an overflow is
reduced before a step is skipped), so every rank stops at the same step without asking the others.
"""

import math
from typing import Any

from zpipe.schema.precision import Precision
from zpipe.train.metrics import Skip


class NonFiniteLossError(RuntimeError):
    """No finite loss or gradient for too many steps."""


class LossScaleStuckError(RuntimeError):
    """Gradients overflow at the lowest loss scale, step after step."""


class PrecisionHealth:
    """Counts what is not finite, and raises when the bounds of the plan are reached."""

    def __init__(self, precision: Precision, is_fp16: bool) -> None:
        self._is_fp16 = is_fp16
        self._most_at_min_scale = precision.max_skipped_steps_at_min_scale
        self._most_nonfinite = precision.max_nonfinite_steps
        self._skipped = 0
        self._at_min_scale = 0
        self._losses = 0
        self._last_finite_loss = 0

    def after_step(self, skip: Skip | None) -> None:
        """Takes an optimizer step; raises NonFiniteLossError or LossScaleStuckError."""
        self._skipped = 0 if skip is None else self._skipped + 1
        self._at_min_scale = self._at_min_scale + 1 if skip is not None and skip.at_min_scale else 0
        if self._is_fp16:
            # A falling scale is how fp16 finds its range: only at its end do skipped steps mean anything.
            if _reached(self._at_min_scale, self._most_at_min_scale):
                raise LossScaleStuckError(self._stuck(skip))
        elif _reached(self._skipped, self._most_nonfinite):
            raise NonFiniteLossError(f"{self._skipped} steps in a row were skipped: no gradient was finite")

    def after_log(self, step: int, loss: float) -> None:
        """Takes a logged loss; raises NonFiniteLossError once several in a row span too many steps."""
        if math.isfinite(loss):
            self._losses, self._last_finite_loss = 0, step
            return
        self._losses += 1
        steps = step - self._last_finite_loss
        # One bad step spoils the mean of all that are logged with it; the second loss decides.
        if self._losses > 1 and _reached(steps, self._most_nonfinite):
            raise NonFiniteLossError(f"the loss has been {loss} for {steps} steps")

    def _stuck(self, skip: Skip | None) -> str:
        scale = "?" if skip is None or skip.scale_after is None else f"{skip.scale_after:g}"
        return f"{self._at_min_scale} steps in a row overflowed at the lowest loss scale, {scale}"


def keep_scaling(engine: Any) -> None:
    """Lets the check above decide when a scale is stuck: DeepSpeed would raise at the first overflow."""
    scaler: Any = getattr(engine.optimizer, "loss_scaler", None)
    if scaler is not None and hasattr(scaler, "raise_error_at_min_scale"):
        scaler.raise_error_at_min_scale = False


def _reached(count: int, most: int | None) -> bool:
    return most is not None and count >= most
