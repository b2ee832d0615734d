"""The run on the terminal: one live line, or plain lines where there is no terminal."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from zpipe.runfolder.events import (
    CheckpointSaved,
    Difference,
    Event,
    Failed,
    Metrics,
    ModelSaved,
    NonFiniteLoss,
    Notice,
    OperatorBuild,
    Overflow,
    PhaseStarted,
    StepReached,
)
from zpipe.terminal.console import clean, tolerant
from zpipe.terminal.summary import planned_steps
from zpipe.terminal.units import duration, number, size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from zpipe.plans.plan import Plan
    from zpipe.runfolder.progress import RunProgress

_REFRESHES_A_SECOND = 4


@dataclass
class _Wait:
    """Something that takes time, and when it began (seconds of the clock)."""

    text: str
    began: float


class LiveDisplay:
    """Shows each event of a run, and its progress; a context manager.

    The caller updates `progress` before the display. `clock` is for tests: a monotonic time in seconds.
    """

    def __init__(
        self,
        plan: "Plan",
        progress: "RunProgress",
        stream: TextIO | None = None,
        is_terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._folder = Path(plan.run_dir)
        self._progress = progress
        self._stream = stream or sys.stdout
        self._is_live = self._stream.isatty() if is_terminal is None else is_terminal
        self._clock = clock
        self._wait: _Wait | None = _Wait("starting the workers", clock())
        self._first_step: tuple[int, float] | None = None
        self._last_step = 0
        self._last_step_at = clock()
        self._console: Console | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._is_live:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=self._stream, markup=False, highlight=False, emoji=False)
            self._live = Live(
                get_renderable=self._renderable,
                console=self._console,
                refresh_per_second=_REFRESHES_A_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with tolerant(self._stream):
                self._live.stop()
            self._live = None

    def update(self, event: Event) -> None:
        """Shows one event."""
        match event:
            case PhaseStarted():
                self._show_phase(event)
            case OperatorBuild():
                self._show_operator(event)
            case StepReached() | Metrics():
                self._reach(event.step)
        for line in self._lines(event):
            self._print(line)

    def line(self) -> str:
        """The live line: what the run is waiting for, or how the training is going."""
        if self._wait is not None:
            return f"{self._wait.text}: {duration(self._clock() - self._wait.began)}"
        return self._training_line()

    def _lines(self, event: Event) -> list[str]:
        """What stays on the terminal of an event that needs no more than a line."""
        match event:
            case Notice():
                return [f"notice: {event.text}"]
            case Difference():
                return [f"warning: {event.key}: planned {event.planned}, DeepSpeed runs {event.real}"]
            case Metrics() if not self._is_live:
                return self._metrics(event)
            case Overflow():
                return [_overflow(event)]
            case NonFiniteLoss():
                return [f"step {event.step}: the loss is {event.loss}"]
            case CheckpointSaved():
                return [f"checkpoint: {self._folder / event.path} ({size(event.bytes)})"]
            case ModelSaved():
                return [f"model: {self._folder / event.path} ({size(event.bytes)})"]
            case Failed():
                first, *_ = event.message.splitlines() or [""]
                return [f"failed: {event.type}: {first}"]
            case _:
                return []

    def _metrics(self, event: Metrics) -> list[str]:
        lines = [self._training_line()] if "loss" in event.values else []
        if "eval_loss" in event.values:
            lines.append(f"{self._position()}  eval_loss {event.values['eval_loss']:.4f}")
        return lines

    def _show_phase(self, event: PhaseStarted) -> None:
        text = f"{event.name} ({event.detail})" if event.detail else event.name
        has_steps = event.name == "train" and not event.detail
        self._wait = None if has_steps else _Wait(text, self._clock())
        self._last_step_at = self._clock()
        if not self._is_live:
            self._print(text)

    def _show_operator(self, event: OperatorBuild) -> None:
        if event.state == "building":
            text = (
                f"building DeepSpeed operator {event.name}, about {duration(event.seconds)}, once per machine"
            )
            self._wait = _Wait(text, self._clock())
            if not self._is_live:
                self._print(text)
        elif event.state == "built":
            self._wait = _Wait("operators", self._clock())
            self._print(f"built DeepSpeed operator {event.name} in {duration(event.seconds)}")

    def _reach(self, step: int) -> None:
        now = self._clock()
        # The first step is slow (kernels are selected, buffers allocated) and would distort the estimate.
        if self._first_step is None and step >= 1:
            self._first_step = (step, now)
        if step >= 1 and self._progress.phase == "train":
            self._wait = None  # what the first step waited for is over
        if step > self._last_step:
            self._last_step, self._last_step_at = step, now

    @property
    def _steps(self) -> int | None:
        return self._progress.steps or planned_steps(self._plan)

    def _position(self) -> str:
        of = "" if self._steps is None else f"/{self._steps}"
        return f"step {self._progress.step}{of}"

    def _training_line(self) -> str:
        """The most important first: a narrow terminal cuts the end off."""
        return "  ".join(part for part in (self._position(), self._eta(), *self._figures()) if part)

    def _figures(self) -> list[str]:
        values = self._progress.values
        parts = []
        if "loss" in values:
            parts.append(f"loss {values['loss']:.4f}")
        if "learning_rate" in values:
            parts.append(f"lr {values['learning_rate']:.2e}")
        if "throughput/tokens_per_sec" in values:
            parts.append(f"{values['throughput/tokens_per_sec']:,.0f} tokens/s")
        if "fp16/loss_scale" in values:
            parts.append(f"loss scale {number(values['fp16/loss_scale'])}")
        skipped = values.get("fp16/skipped_steps", values.get("skipped_steps", 0.0))
        if skipped:
            parts.append(f"{skipped:.0f} skipped")
        return parts

    def _eta(self) -> str:
        """The remaining time at the pace since the first step; empty until there is a pace."""
        if self._first_step is None or self._steps is None:
            return ""
        first, began = self._first_step
        if self._last_step <= first or self._last_step >= self._steps:
            return ""
        pace = (self._last_step_at - began) / (self._last_step - first)
        left = pace * (self._steps - self._last_step) - (self._clock() - self._last_step_at)
        return f"{duration(max(0.0, left))} left"

    def _print(self, text: str) -> None:
        """Prints a line that stays; never as rich's markup, because paths and messages may look like it."""
        with tolerant(self._stream):
            if self._live is not None and self._console is not None:
                from rich.text import Text

                self._console.print(Text(clean(text)), soft_wrap=True)
            else:
                print(clean(text), file=self._stream, flush=True)

    def _renderable(self) -> "Text":
        from rich.text import Text

        return Text(clean(self.line()), no_wrap=True, overflow="ellipsis")


def _overflow(event: Overflow) -> str:
    before, after = event.scale_before, event.scale_after
    scale = "" if before is None else f", loss scale {number(before)} -> {number(after)}"
    return (
        f"step {event.step}: gradients not finite, step skipped{scale} ({event.skipped_total} skipped so far)"
    )
