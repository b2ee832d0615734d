"""What is known about the end of a run: its events, what its supervisor saw, and the files in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pydantic import TypeAdapter, ValidationError

from zpipe.launchers.logs import launcher_lines, rank_lines
from zpipe.launchers.rank_exits import RankExit, read_rank_exits
from zpipe.machine.samples import Sample
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.foreign_files import read_bytes
from zpipe.runfolder.nodes import NodeNote
from zpipe.runfolder.progress import RunProgress

SHOWN_LINES = 20
NOWHERE: Mapping[int, str] = MappingProxyType({})
STACK_LINES = 80
"""Enough for a whole stack: its innermost frame, which matters most, is written first."""


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

    progress: RunProgress = field(default_factory=RunProgress)
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
    folder_is_gone: bool = False
    """Whether the run folder was deleted while the run was active."""
    other_node: NodeNote | None = None
    """Another node that failed, where the run has several."""
    places: Mapping[int, str] = field(default_factory=dict)
    """For each rank, the node on which it ran, where one zpipe supervises several."""

    @property
    def all_lines(self) -> list[str]:
        return [line for lines in (*self.lines.values(), self.launcher_lines) for line in lines]


def from_folder(
    folder: RunFolder,
    progress: RunProgress,
    samples: tuple[Sample, ...],
    *,
    attempt: Attempt | None = None,
    returncode: int | None = None,
    stopped_by: int | None = None,
    in_batch_job: bool = False,
    silence: Silence | None = None,
    folder_is_gone: bool = False,
    seen_exits: tuple[RankExit, ...] = (),
    own_ranks: range | None = None,
    places: Mapping[int, str] = NOWHERE,
) -> Evidence:
    """Combines what the supervisor knows with the files that the workers left in the run folder.

    With `own_ranks`, of these alone: the others have their own zpipe, which tells this one.
    """
    attempt = attempt or folder.attempt
    rank_exits = tuple(read_rank_exits(attempt, seen_exits))
    errors = tuple(_errors(attempt, progress, own_ranks))
    ranks = {each.rank for each in rank_exits} | {error.rank for error in errors}
    ranks |= set(silence.states) if silence else set()
    count = STACK_LINES if silence else SHOWN_LINES
    return Evidence(
        progress=progress,
        returncode=returncode,
        stopped_by=stopped_by,
        in_batch_job=in_batch_job,
        silence=silence,
        rank_exits=rank_exits,
        errors=errors,
        samples=samples,
        lines={rank: tuple(rank_lines(attempt, rank, count)) for rank in sorted(ranks)},
        launcher_lines=tuple(launcher_lines(attempt, SHOWN_LINES)),
        folder_is_gone=folder_is_gone,
        places=places,
    )


def _errors(attempt: Attempt, progress: RunProgress, ranks: range | None) -> list[RankError]:
    """From the ranks' error files; on a full disk rank 0 may have reported its error as an event only."""
    errors = []
    for file in attempt.rank_errors(ranks):
        try:
            errors.append(TypeAdapter(RankError).validate_json(read_bytes(file)))
        except (OSError, ValidationError, RecursionError):  # a full disk leaves an incomplete file
            continue
    failed = progress.failed if ranks is None or 0 in ranks else None
    if failed is not None and not any(error.rank == 0 for error in errors):
        errors.append(RankError(0, failed.type, failed.message, time=failed.time))
    return sorted(errors, key=lambda error: (error.time, error.rank))
