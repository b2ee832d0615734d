"""All ranks agree on the step at which they stop, or save ahead of the schedule.

A rank that decided alone would leave the others waiting in a collective. Rank 0 decides, and tells the others
in a broadcast that all ranks make at the same steps, about twice a second.
"""

import time
from datetime import timedelta
from enum import IntEnum
from typing import Any

from transformers import TrainerCallback

from zpipe.plans.plan import Plan
from zpipe.runfolder.attempt_start import AttemptStart
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.stop_request import stop_reason
from zpipe.train.ranks import Rank
from zpipe.train.signals import training_begun

SECONDS_BETWEEN_VOTES = 0.5
_MOST_STEPS = 1000


class Decision(IntEnum):
    GO_ON = 0
    SAVE = 1
    STOP = 2


class StopCallback(TrainerCallback):
    """Saves and ends the training when somebody asked for it, or when the time budget is spent."""

    def __init__(self, plan: Plan, rank: Rank, start: AttemptStart) -> None:
        self.reason: str | None = None
        """Why the training stopped early."""
        checkpoint = plan.experiment.checkpoint
        self._attempt = folder_of(plan).attempt
        self.saves = checkpoint.save_strategy != "no"
        """Whether a stop leaves a checkpoint."""
        self._stops_at = None if checkpoint.stop_after is None else start.time + checkpoint.stop_after
        self._save_seconds = None if checkpoint.every_minutes is None else 60 * checkpoint.every_minutes
        self._saved_at = time.monotonic()
        self._rank = rank
        self._group = _control_group(rank)
        self._next_vote = 0
        self._last_vote: tuple[int, float] = (0, time.monotonic())

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        training_begun.set()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < self._next_vote:
            return
        decision, interval = self._agree(state.global_step)
        self._next_vote = state.global_step + interval
        if decision == Decision.GO_ON:
            return
        control.should_save = control.should_save or self.saves
        if decision == Decision.STOP and state.global_step < state.max_steps:
            self.reason = stop_reason(self._attempt) or "the time budget of checkpoint.stop_after is spent"
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved_at = time.monotonic()

    def _agree(self, step: int) -> tuple[Decision, int]:
        """The decision of rank 0, and the number of steps until the next vote."""
        vote = [int(self._decide()), self._interval(step)] if self._rank.is_main else [0, 0]
        if self._group is not None:
            import torch
            import torch.distributed as dist

            told = torch.tensor(vote, dtype=torch.int64)
            dist.broadcast(told, src=0, group=self._group)
            vote = told.tolist()
        return Decision(vote[0]), vote[1]

    def _decide(self) -> Decision:
        is_spent = self._stops_at is not None and time.time() >= self._stops_at
        if is_spent or self._attempt.stop_request.exists():
            return Decision.STOP
        is_due = self._save_seconds is not None and time.monotonic() - self._saved_at >= self._save_seconds
        return Decision.SAVE if is_due else Decision.GO_ON

    def _interval(self, step: int) -> int:
        last_step, last_time = self._last_vote
        now = time.monotonic()
        self._last_vote = (step, now)
        seconds = max(now - last_time, 1e-3) / max(step - last_step, 1)
        return max(1, min(_MOST_STEPS, round(SECONDS_BETWEEN_VOTES / seconds)))


def _control_group(rank: Rank) -> Any:
    """A group for values in host memory; None for a single rank."""
    import torch.distributed as dist

    if rank.world_size == 1 or not dist.is_initialized():
        return None
    if dist.get_backend() == "gloo":
        return dist.group.WORLD
    return dist.new_group(backend="gloo", timeout=timedelta(hours=1))
