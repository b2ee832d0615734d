"""The state of a run, accumulated from its events: read by display, summary, classification and record."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from zpipe.runfolder.events import (
    AttemptBegan,
    CheckpointSaved,
    Event,
    Failed,
    Metrics,
    ModelSaved,
    NonFiniteLoss,
    Overflow,
    PhaseStarted,
    Refused,
    StepReached,
    Stopped,
    Summary,
    Values,
)

EVALUATION_PREFIX = "eval_"
"""Of the names that transformers gives to the metrics of an evaluation."""

INPUTS_ACCEPTED = frozenset({"step", "metrics", "overflow", "nonfinite", "checkpoint", "model", "summary"})
"""Kinds of events that only a run whose inputs were accepted reports."""


@dataclass
class RunProgress:
    """The state of a run after the events so far."""

    attempts: int = 1
    """How often the workers were started."""
    phase: str = ""
    step: int = 0
    first_step: int = 0
    """The step that this attempt went on from."""
    has_engine: bool = False
    """Whether this attempt came as far as its first micro-batch."""
    steps: int | None = None
    """Of the whole run, once known."""
    values: Values = field(default_factory=dict)
    """The last value of each metric."""
    summary: Values = field(default_factory=dict)
    evaluations: dict[int, list[Metrics]] = field(default_factory=dict)
    """By step, what was measured of the model of this step."""
    checkpoints: list[CheckpointSaved] = field(default_factory=list)
    """Every checkpoint that was written; save_total_limit may have removed some since."""
    model: ModelSaved | None = None
    precision_events: list[Overflow | NonFiniteLoss] = field(default_factory=list)
    """Skipped steps and losses that were not finite, in order."""
    overflows: int = 0
    refused: Refused | None = None
    failed: Failed | None = None
    stopped: Stopped | None = None
    accepted: bool = False
    """Whether the worker accepted its inputs: it reached the model, or went beyond."""
    first_time: float | None = None
    last_time: float | None = None
    """Unix time in seconds of the first and the last event."""

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        progress = cls()
        for event in events:
            progress.update(event)
        return progress

    @property
    def loss(self) -> float | None:
        """The training loss that was logged last; may be non-finite."""
        return self.values.get("loss")

    @property
    def done(self) -> bool:
        """Whether rank 0 reported that everything was done."""
        return self.phase == "done"

    def update(self, event: Event) -> None:
        self.first_time = event.time if self.first_time is None else self.first_time
        self.last_time = event.time
        self.step = max(self.step, getattr(event, "step", 0))
        self.accepted = self.accepted or event.event in INPUTS_ACCEPTED
        match event:
            case AttemptBegan():
                self._begin_attempt(event)
            case PhaseStarted():
                self.phase = event.name
                self.accepted = self.accepted or event.name == "model"
            case StepReached():
                self.steps = event.of or self.steps
                self.has_engine = True
            case Metrics():
                self._measure(event)
            case Overflow():
                self.values |= event.values
                self.precision_events.append(event)
                self.overflows += 1
            case NonFiniteLoss():
                self.precision_events.append(event)
            case _:
                self._keep(event)

    def _measure(self, event: Metrics) -> None:
        self.values |= event.values
        if any(name.startswith(EVALUATION_PREFIX) for name in event.values):
            self.evaluations.setdefault(event.step, []).append(event)

    def _begin_attempt(self, event: AttemptBegan) -> None:
        """What the run learned stays; how an earlier attempt ended does not."""
        self.attempts, self.step, self.phase = event.number, event.step, ""
        self.first_step, self.has_engine = event.step, False
        self.refused, self.failed, self.stopped, self.summary = None, None, None, {}

    def _keep(self, event: Event) -> None:
        match event:
            case CheckpointSaved():
                self.checkpoints.append(event)
            case ModelSaved():
                self.model = event
            case Summary():
                self.summary = event.values
            case Refused():
                self.refused = event
            case Failed():
                self.failed = event
            case Stopped():
                self.stopped = event
            case _:
                pass
