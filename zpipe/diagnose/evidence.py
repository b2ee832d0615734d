"""What is known about the end of a run: its events, what its supervisor saw, and the files in its folder."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zpipe.launchers.logs import launcher_lines, rank_lines
from zpipe.launchers.rank_exits import RankExit, read_rank_exits
from zpipe.machine.samples import Sample
from zpipe.runfolder.event_file import Event

SHOWN_LINES = 20
STACK_LINES = 80
"""Enough for a whole stack: its innermost frame, which matters most, is written first."""


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
        """One line: the first of the message, and the next one if the first ends with a colon."""
        lines = [line.strip() for line in self.message.splitlines() if line.strip()]
        shown = lines[:2] if lines and lines[0].endswith(":") else lines[:1]
        return f"{self.type}: {' '.join(shown)}"


@dataclass(frozen=True)
class Silence:
    """The workers were running and sent no event."""

    seconds: float
    states: Mapping[int, str]
    """The state of each rank's process, as psutil names it."""


@dataclass(frozen=True)
class Evidence:
    """Everything that determines the ending."""

    heard: Heard = field(default_factory=Heard)
    returncode: int | None = None
    """Of the launcher; None if zpipe was killed before the launcher ended."""
    stopped_by: int | None = None
    """The signal that asked zpipe to stop."""
    in_batch_job: bool = False
    silence: Silence | None = None
    rank_exits: tuple[RankExit, ...] = ()
    """Ranks that did not exit with 0, in the order of their ends."""
    errors: tuple[RankError, ...] = ()
    """In the order in which they were raised."""
    samples: tuple[Sample, ...] = ()
    """Of the last ten minutes."""
    lines: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """The last lines that each failed rank logged."""
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
    """Combines what the supervisor knows with the files that the workers left in the run folder."""
    rank_exits, errors = tuple(read_rank_exits(run_dir)), tuple(_errors(run_dir, heard))
    ranks = {each.rank for each in rank_exits} | {error.rank for error in errors}
    ranks |= set(silence.states) if silence else set()
    count = STACK_LINES if silence else SHOWN_LINES
    return Evidence(
        heard=heard,
        returncode=returncode,
        stopped_by=stopped_by,
        in_batch_job=in_batch_job,
        silence=silence,
        rank_exits=rank_exits,
        errors=errors,
        samples=samples,
        lines={rank: tuple(rank_lines(run_dir, rank, count)) for rank in sorted(ranks)},
        launcher_lines=tuple(launcher_lines(run_dir, SHOWN_LINES)),
    )


def _errors(run_dir: Path, heard: Heard) -> list[RankError]:
    """From the ranks' error files; rank 0 may have sent its error as an event without space for a file."""
    errors = []
    for file in run_dir.glob("rank*.error.json"):
        try:
            errors.append(RankError(**json.loads(file.read_text())))
        except (OSError, ValueError, TypeError):  # a full disk leaves an incomplete file
            continue
    if heard.failed is not None and not any(error.rank == 0 for error in errors):
        event = heard.failed
        errors.append(RankError(0, str(event["type"]), str(event["message"]), time=float(event["time"])))
    return sorted(errors, key=lambda error: (error.time, error.rank))
