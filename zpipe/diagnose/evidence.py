"""What is known about the end of a run: heard from its events, seen by its supervisor, left in its folder."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zpipe.launchers.logs import launcher_lines, rank_lines
from zpipe.launchers.rank_exits import Death, read_deaths
from zpipe.machine.samples import Sample
from zpipe.runfolder.event_file import Event

SHOWN_LINES = 20
STACK_LINES = 80
"""A stack is written from its innermost frame on, which is the one that matters."""


@dataclass
class Heard:
    """What the events said."""

    phase: str = ""
    step: int = 0
    loss: float | None = None
    """The training loss that was logged last; may be non-finite."""
    refused: list[dict[str, Any]] = field(default_factory=list)
    failed: Event | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    """The last value of each metric."""
    checkpoints: list[str] = field(default_factory=list)
    unhealthy: deque[Event] = field(default_factory=lambda: deque(maxlen=SHOWN_LINES))
    """The last skipped steps and losses that were not finite."""

    @property
    def done(self) -> bool:
        """Whether rank 0 said that everything was done."""
        return self.phase == "done"

    def hear(self, event: Event) -> None:
        kind = event["event"]
        self.step = max(self.step, int(event.get("step") or 0))
        if kind == "phase":
            self.phase = event["name"]
        elif kind == "refused":
            self.refused = event["problems"]
        elif kind == "failed":
            self.failed = event
        elif kind == "summary":
            self.summary = event["values"]
        elif kind == "metrics":
            self.values |= {name: float(value) for name, value in event["values"].items()}
            self.loss = self.values.get("loss")
        elif kind == "checkpoint":
            self.checkpoints.append(event["path"])
        elif kind in ("overflow", "nonfinite"):
            self.unhealthy.append(event)


@dataclass(frozen=True)
class RankError:
    """A Python exception that ended a rank."""

    rank: int
    type: str
    message: str
    traceback: str = ""
    time: float = 0.0
    """Unix time in seconds."""

    @property
    def line(self) -> str:
        """For people, in one line: the first of the message, with the next where it only announces that."""
        lines = [line.strip() for line in self.message.splitlines() if line.strip()]
        said = lines[:2] if lines and lines[0].endswith(":") else lines[:1]
        return f"{self.type}: {' '.join(said)}"


@dataclass(frozen=True)
class Silence:
    """Nothing was heard while the workers lived."""

    seconds: float
    states: Mapping[int, str]
    """What the process of each rank was doing, in psutil's words."""


@dataclass(frozen=True)
class Evidence:
    """Everything that decides about the ending."""

    heard: Heard = field(default_factory=Heard)
    returncode: int | None = None
    """Of the launcher; None if nobody lived to see it."""
    stopped_by: int | None = None
    """The signal that asked zpipe to stop."""
    in_batch_job: bool = False
    silence: Silence | None = None
    deaths: tuple[Death, ...] = ()
    """The first one first."""
    errors: tuple[RankError, ...] = ()
    """The first one first."""
    samples: tuple[Sample, ...] = ()
    """The last ten minutes at most."""
    lines: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """The last lines of each rank that ended badly."""
    launcher_lines: tuple[str, ...] = ()

    @property
    def all_lines(self) -> list[str]:
        return [line for lines in (*self.lines.values(), self.launcher_lines) for line in lines]


def from_folder(
    run_dir: Path,
    heard: Heard,
    samples: tuple[Sample, ...],
    *,
    returncode: int | None = None,
    stopped_by: int | None = None,
    in_batch_job: bool = False,
    silence: Silence | None = None,
) -> Evidence:
    """Adds what the workers left in the run folder to what was heard and seen."""
    deaths, errors = tuple(read_deaths(run_dir)), tuple(_errors(run_dir, heard))
    ranks = {death.rank for death in deaths} | {error.rank for error in errors}
    ranks |= set(silence.states) if silence else set()
    count = STACK_LINES if silence else SHOWN_LINES
    return Evidence(
        heard=heard,
        returncode=returncode,
        stopped_by=stopped_by,
        in_batch_job=in_batch_job,
        silence=silence,
        deaths=deaths,
        errors=errors,
        samples=samples,
        lines={rank: tuple(rank_lines(run_dir, rank, count)) for rank in sorted(ranks)},
        launcher_lines=tuple(launcher_lines(run_dir, SHOWN_LINES)),
    )


def _errors(run_dir: Path, heard: Heard) -> list[RankError]:
    """From the files of the ranks; rank 0 may have had no room for a file and still have spoken."""
    errors = []
    for file in run_dir.glob("rank*.error.json"):
        try:
            errors.append(RankError(**json.loads(file.read_text())))
        except (OSError, ValueError, TypeError):  # a full disk leaves half a file
            continue
    if heard.failed is not None and not any(error.rank == 0 for error in errors):
        said = heard.failed
        errors.append(RankError(0, str(said["type"]), str(said["message"]), time=float(said["time"])))
    return sorted(errors, key=lambda error: (error.time, error.rank))
