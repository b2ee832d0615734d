"""The attempts of a run: how each ended, which steps it did, and from which checkpoint it went on."""

from collections.abc import Iterator
from pathlib import Path

from zpipe.problems import Refusal
from zpipe.runfolder.attempt_start import AttemptStart, read_start
from zpipe.runfolder.event_file import EventReader
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.outcome import outcome_of
from zpipe.terminal.console import print_table

_COLUMNS = ("attempt", "ended", "steps", "went on from")


def print_attempts(folder: RunFolder) -> None:
    """Prints a line for each attempt; nothing for a run that began once, at its first step."""
    rows = list(_rows(folder))
    if len(rows) > 1 or any(origin for *_, origin in rows):
        print()
        print_table(_COLUMNS, rows)


def _rows(folder: RunFolder) -> Iterator[tuple[str, str, str, str]]:
    for attempt in folder.attempts:
        start = _start_of(attempt)
        yield str(attempt.number), _ending_of(attempt), _steps_of(attempt, start), _origin_of(folder, start)


def _start_of(attempt: Attempt) -> AttemptStart | None:
    try:
        return read_start(attempt)
    except Refusal:
        return None


def _ending_of(attempt: Attempt) -> str:
    try:
        outcome = outcome_of(attempt)
    except Refusal:
        return "result.json is damaged"
    return "no result" if outcome is None else outcome.ending.replace("_", " ")


def _steps_of(attempt: Attempt, start: AttemptStart | None) -> str:
    first = start.step if start is not None else 0
    last = max((getattr(event, "step", 0) for event in EventReader(attempt.events).read_new()), default=0)
    return f"{first} to {last}" if last > first else "none"


def _origin_of(folder: RunFolder, start: AttemptStart | None) -> str:
    """The name of a checkpoint of this run, the path of another one."""
    if start is None or start.checkpoint is None:
        return ""
    checkpoint = Path(start.checkpoint)
    return checkpoint.name if checkpoint.parent == folder.path else start.checkpoint
