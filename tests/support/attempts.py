"""Run folders with attempts, as runs leave them, without a run."""

from pathlib import Path
from typing import Any

from tests.support.events import event
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.attempt_start import AttemptStart, write_start
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.outcome import Ending, Outcome

RUN_ID = "this-run"


def begin_attempt(run_dir: Path, checkpoint: Path | None = None, step: int = 0, **start: Any) -> Attempt:
    """The next attempt of a run."""
    folder = RunFolder(run_dir)
    attempt = folder.begin(len(folder.attempts) + 1)
    origin = str(checkpoint) if checkpoint else None
    write_start(attempt, AttemptStart(run_id=RUN_ID, checkpoint=origin, step=step, **start))
    return attempt


def report(attempt: Attempt, *events: tuple[str, dict[str, Any]]) -> None:
    reporter = Reporter(attempt.events)
    for kind, fields in events:
        reporter.report(event(kind, **fields))
    reporter.close()


def end_attempt(attempt: Attempt, ending: Ending, **outcome: Any) -> None:
    value = Outcome(ending=ending, run_dir=str(attempt.path.parent), **outcome)
    write_json(attempt.result, value.model_dump(mode="json"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
