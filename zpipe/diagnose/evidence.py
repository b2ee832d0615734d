"""What is known about the end of a run: heard from its events, seen by its supervisor, left in its folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from zpipe.launchers.logs import launcher_lines, rank_lines
from zpipe.launchers.rank_exits import Death, read_deaths
from zpipe.machine.samples import Sample
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.progress import RunProgress

SHOWN_LINES = 20
STACK_LINES = 80
"""A stack is written from its innermost frame on, which is the one that matters."""


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

    progress: RunProgress = field(default_factory=RunProgress)
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
    folder: RunFolder,
    progress: RunProgress,
    samples: tuple[Sample, ...],
    *,
    returncode: int | None = None,
    stopped_by: int | None = None,
    in_batch_job: bool = False,
    silence: Silence | None = None,
) -> Evidence:
    """Adds what the workers left in the run folder to what was heard and seen."""
    deaths, errors = tuple(read_deaths(folder.attempt)), tuple(_errors(folder.attempt, progress))
    ranks = {death.rank for death in deaths} | {error.rank for error in errors}
    ranks |= set(silence.states) if silence else set()
    count = STACK_LINES if silence else SHOWN_LINES
    return Evidence(
        progress=progress,
        returncode=returncode,
        stopped_by=stopped_by,
        in_batch_job=in_batch_job,
        silence=silence,
        deaths=deaths,
        errors=errors,
        samples=samples,
        lines={rank: tuple(rank_lines(folder.attempt, rank, count)) for rank in sorted(ranks)},
        launcher_lines=tuple(launcher_lines(folder.attempt, SHOWN_LINES)),
    )


def _errors(attempt: Attempt, progress: RunProgress) -> list[RankError]:
    """From the files of the ranks; rank 0 may have had no room for a file and still have spoken."""
    errors = []
    for file in attempt.rank_errors():
        try:
            errors.append(RankError(**json.loads(file.read_text())))
        except (OSError, ValueError, TypeError):  # a full disk leaves half a file
            continue
    failed = progress.failed
    if failed is not None and not any(error.rank == 0 for error in errors):
        errors.append(RankError(0, failed.type, failed.message, time=failed.time))
    return sorted(errors, key=lambda error: (error.time, error.rank))
