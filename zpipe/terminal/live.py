"""The run on the terminal: one live line, or plain lines where there is no terminal."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from zpipe.terminal.summary import Facts, clean, tolerant
from zpipe.terminal.units import duration, number, size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from zpipe.plan.plan import Plan
    from zpipe.runfolder.event_file import Event


_REFRESHES_A_SECOND = 4


@dataclass
class _Wait:
    """Something that takes its time, and when it began (seconds of the clock)."""

    text: str
    began: float


class Progress:
    """Shows the events that it is given; a context manager.

    `clock` is for tests: a monotonic time in seconds.
    """

    def __init__(
        self,
        plan: "Plan",
        stream: TextIO | None = None,
        is_terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        max_steps = plan.experiment.train.max_steps
        self.facts = Facts(steps=max_steps if max_steps > 0 else None)
        self._plan = plan
        self._stream = stream or sys.stdout
        self._is_live = self._stream.isatty() if is_terminal is None else is_terminal
        self._clock = clock
        self._wait: _Wait | None = _Wait("starting the workers", clock())
        self._first_step: tuple[int, float] | None = None
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

    def handle(self, event: "Event") -> None:
        """Takes one event; unknown kinds are left to others."""
        action = _ACTIONS.get(event["event"])
        if action is not None:
            action(self, event)

    def line(self) -> str:
        """The live line: what is waited for, or how the training goes."""
        if self._wait is not None:
            return f"{self._wait.text}: {duration(self._clock() - self._wait.began)}"
        return self._training_line()

    def _phase(self, event: "Event") -> None:
        name, detail = str(event["name"]), str(event.get("detail") or "")
        text = f"{name} ({detail})" if detail else name
        self._wait = None if name == "train" else _Wait(text, self._clock())
        self._last_step_at = self._clock()
        if not self._is_live:
            self._say(text)

    def _notice(self, event: "Event") -> None:
        self._say(f"notice: {event['text']}")

    def _difference(self, event: "Event") -> None:
        self._say(f"warning: {event['key']}: planned {event['planned']}, DeepSpeed runs {event['real']}")

    def _operator(self, event: "Event") -> None:
        name, seconds = event["name"], float(event.get("seconds") or 0)
        if event["state"] == "building":
            text = f"building DeepSpeed operator {name}, about {duration(seconds)}, once per machine"
            self._wait = _Wait(text, self._clock())
            if not self._is_live:
                self._say(text)
        elif event["state"] == "built":
            self._wait = _Wait("operators", self._clock())
            self._say(f"built DeepSpeed operator {name} in {duration(seconds)}")

    def _step(self, event: "Event") -> None:
        self.facts.steps = event.get("of") or self.facts.steps
        self._reach(int(event["step"]))

    def _metrics(self, event: "Event") -> None:
        values = {key: float(value) for key, value in event["values"].items() if _is_number(value)}
        self.facts.values |= values
        self._reach(int(event["step"]))
        if self._is_live:
            return
        if "loss" in values:
            self._say(self._training_line())
        if "eval_loss" in values:
            self._say(f"{self._position()}  eval_loss {values['eval_loss']:.4f}")

    def _overflow(self, event: "Event") -> None:
        self.facts.overflows += 1
        before, after = event.get("scale_before"), event.get("scale_after")
        scale = "" if before is None else f", loss scale {number(before)} -> {number(after)}"
        total = event.get("skipped_total")
        self._say(f"step {event['step']}: gradients not finite, step skipped{scale} ({total} skipped so far)")

    def _nonfinite(self, event: "Event") -> None:
        self._say(f"step {event['step']}: the loss is {event['loss']}")

    def _checkpoint(self, event: "Event") -> None:
        path = self._plan.folder / event["path"]
        self.facts.checkpoints.append(path)
        self._say(f"checkpoint: {path} ({size(event.get('bytes'))})")

    def _model(self, event: "Event") -> None:
        self.facts.model = self._plan.folder / event["path"]
        self._say(f"model: {self.facts.model} ({size(event.get('bytes'))})")

    def _failed(self, event: "Event") -> None:
        first, *_ = str(event.get("message")).splitlines() or [""]
        self._say(f"failed: {event.get('type')}: {first}")

    def _reach(self, step: int) -> None:
        now = self._clock()
        # The first step is slow (kernels are chosen, buffers made) and would spoil the estimate.
        if self._first_step is None and step >= 1:
            self._first_step = (step, now)
        if step > self.facts.step:
            self.facts.step, self._last_step_at = step, now

    def _position(self) -> str:
        of = "" if self.facts.steps is None else f"/{self.facts.steps}"
        return f"step {self.facts.step}{of}"

    def _training_line(self) -> str:
        """The most wanted first: a narrow terminal cuts the end off."""
        return "  ".join(part for part in (self._position(), self._eta(), *self._figures()) if part)

    def _figures(self) -> list[str]:
        values = self.facts.values
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
        """What is left, at the pace since the first step; empty until there is a pace."""
        if self._first_step is None or self.facts.steps is None:
            return ""
        first, began = self._first_step
        if self.facts.step <= first or self.facts.step >= self.facts.steps:
            return ""
        pace = (self._last_step_at - began) / (self.facts.step - first)
        left = pace * (self.facts.steps - self.facts.step) - (self._clock() - self._last_step_at)
        return f"{duration(max(0.0, left))} left"

    def _say(self, text: str) -> None:
        """Prints a line that stays; never as rich's markup, because paths and messages may look like it."""
        if self._live is not None and self._console is not None:
            from rich.text import Text

            with tolerant(self._stream):
                self._console.print(Text(clean(text)), soft_wrap=True)
        else:
            with tolerant(self._stream):
                print(clean(text), file=self._stream, flush=True)

    def _renderable(self) -> "Text":
        from rich.text import Text

        return Text(clean(self.line()), no_wrap=True, overflow="ellipsis")


_ACTIONS: dict[str, Callable[[Progress, "Event"], None]] = {
    "phase": Progress._phase,
    "notice": Progress._notice,
    "difference": Progress._difference,
    "operator": Progress._operator,
    "step": Progress._step,
    "metrics": Progress._metrics,
    "overflow": Progress._overflow,
    "nonfinite": Progress._nonfinite,
    "checkpoint": Progress._checkpoint,
    "model": Progress._model,
    "failed": Progress._failed,
}


def _is_number(value: Any) -> bool:
    """Whether an event's value is a number, as JSON or as the name of one that JSON lacks."""
    return value in ("nan", "inf", "-inf") if isinstance(value, str) else isinstance(value, int | float)
