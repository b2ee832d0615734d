"""The events of a run, typed: one class a kind, one line of JSON each in `events.jsonl`.

Rank 0 writes them; the parent and `zpipe record` read them. Non-finite numbers are the strings "nan", "inf"
and "-inf" in the file, because JSON has none.
"""

import time
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from zpipe.problems import Problem
from zpipe.runfolder.json_lines import encode_json

VERSION = 1
"""Of the format of a line. Raised when a field changes its meaning; readers skip lines of a later version."""

_LATEST = 1e11
"""Unix time in the year 5138; milliseconds still fit into MLflow's columns."""

Step: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]

Values: TypeAlias = dict[str, float]
"""Metrics by their names in MLflow."""


class _Event(BaseModel):
    """`time` is Unix time in seconds."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    time: float = Field(default_factory=lambda: round(time.time(), 3), ge=0, le=_LATEST)
    version: int = VERSION


class AttemptBegan(_Event):
    """The workers were started again, from a checkpoint or from the beginning."""

    event: Literal["attempt"] = "attempt"
    number: int
    step: Step
    """The step that this attempt goes on from; 0 is the beginning."""


class PhaseStarted(_Event):
    """What the run is doing from now on."""

    event: Literal["phase"] = "phase"
    name: str
    detail: str = ""


class Notice(_Event):
    """Something that the user should know."""

    event: Literal["notice"] = "notice"
    text: str


class OperatorBuild(_Event):
    """A DeepSpeed operator is being built, or was; `seconds` is the estimate, or the time that it took."""

    event: Literal["operator"] = "operator"
    name: str
    state: Literal["building", "built", "stale_lock_cleared"]
    seconds: float


class StepReached(_Event):
    """Progress without measurements, at most once a second."""

    event: Literal["step"] = "step"
    step: Step
    of: int | None = None


class Metrics(_Event):
    event: Literal["metrics"] = "metrics"
    step: Step
    values: Values


class Difference(_Event):
    """DeepSpeed runs another value than the plan has."""

    event: Literal["difference"] = "difference"
    key: str
    planned: str
    real: str
    serious: bool


class Overflow(_Event):
    """DeepSpeed skipped a step because gradients were not finite. Scales are null without fp16."""

    event: Literal["overflow"] = "overflow"
    step: Step
    scale_before: float | None = None
    scale_after: float | None = None
    skipped_total: int

    @property
    def values(self) -> Values:
        """The same as metrics, so that the step needs no second event."""
        if self.scale_after is None:
            return {"skipped_steps": float(self.skipped_total)}
        return {
            "fp16/loss_scale": self.scale_after,
            "fp16/skipped_steps": float(self.skipped_total),
            "fp16/overflow": 1.0,
        }


class NonFiniteLoss(_Event):
    event: Literal["nonfinite"] = "nonfinite"
    step: Step
    loss: float
    grad_norm: float | None = None


class CheckpointSaved(_Event):
    """`path` is relative to the run folder, or absolute for one on the local disk of node 0."""

    event: Literal["checkpoint"] = "checkpoint"
    step: Step
    path: str
    bytes: int
    seconds: Values = {}
    """How long the checkpoint took, by part: write, verify, sync."""
    held_up: Values = {}
    """How long the training stood still for it, by part: snapshot, wait."""

    @property
    def values(self) -> Values:
        """The cost as metrics."""
        if not self.seconds:
            return {}
        parts = {f"checkpoint/{part}_s": value for part, value in self.seconds.items()}
        return {
            **parts,
            "checkpoint/save_s": sum(self.seconds.values()),
            **({"checkpoint/held_up_s": sum(self.held_up.values())} if self.held_up else {}),
            "checkpoint/gib": self.bytes / 2**30,
        }


class ModelSaved(_Event):
    """The final model; `path` is relative to the run folder."""

    event: Literal["model"] = "model"
    step: Step
    path: str
    bytes: int


class Refused(_Event):
    """The worker refused its input."""

    event: Literal["refused"] = "refused"
    problems: list[dict[str, Any]]

    @classmethod
    def of(cls, problems: tuple[Problem, ...]) -> "Refused":
        return cls(problems=[_as_json(problem) for problem in problems])

    def listed(self) -> list[Problem]:
        return [Problem(**problem) for problem in self.problems]


class Failed(_Event):
    """An exception ended rank 0."""

    event: Literal["failed"] = "failed"
    type: str
    message: str


class Stopped(_Event):
    """All ranks stopped after this step because somebody asked for it."""

    event: Literal["stopped"] = "stopped"
    step: Step
    saved: bool
    """Whether there is a checkpoint of this step."""
    reason: str


class Summary(_Event):
    """The last figures of the run."""

    event: Literal["summary"] = "summary"
    values: Values


Event: TypeAlias = (
    AttemptBegan
    | PhaseStarted
    | Notice
    | OperatorBuild
    | StepReached
    | Metrics
    | Difference
    | Overflow
    | NonFiniteLoss
    | CheckpointSaved
    | ModelSaved
    | Refused
    | Failed
    | Stopped
    | Summary
)


def to_line(event: Event) -> str:
    return encode_json(event.model_dump())


def from_line(line: bytes) -> Event | None:
    """The event of a line; None if the line is damaged, of a later version, or of an unknown kind."""
    try:
        event = event_adapter().validate_json(line)
    except ValidationError:
        return None
    return event if event.version <= VERSION else None


@cache
def event_adapter() -> TypeAdapter[Event]:
    return TypeAdapter(Annotated[Event, Field(discriminator="event")])


def _as_json(problem: Problem) -> dict[str, Any]:
    value = problem.value
    return {
        "key": problem.key,
        "value": value if isinstance(value, str | int | float | bool | None) else str(value),
        "reason": problem.reason,
        "allowed": problem.allowed,
        "fix": problem.fix,
    }
