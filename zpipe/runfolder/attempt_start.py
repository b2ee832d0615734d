"""How an attempt began, as a value that is also a file: attempt.json in the attempt's folder."""

import hashlib
import time

from pydantic import Field

from zpipe.runfolder.atomic import read_model, write_json
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.schema.base import Group


class AttemptStart(Group):
    """What is decided anew for each attempt; everything else is in the plan of the run."""

    run_id: str
    """Identity of the run, the same for all its attempts and in all its checkpoints."""
    checkpoint: str | None = None
    """Folder of the checkpoint that the attempt goes on from; null begins at step 0."""
    step: int = 0
    """The step of that checkpoint."""
    changes: list[str] = []
    """Settings that differ from the attempt before."""
    command: list[str] = []
    """The overrides as the user typed them."""
    time: float = Field(default_factory=time.time)
    """Unix time in seconds."""


def write_start(attempt: Attempt, start: AttemptStart) -> None:
    write_json(attempt.start, start.model_dump(mode="json"))


def read_start(attempt: Attempt) -> AttemptStart:
    """Raises Refusal if the file is missing or damaged."""
    return read_model(AttemptStart, attempt.start, "attempt", "an attempt.json that zpipe wrote")


def start_by_hand(folder: RunFolder) -> AttemptStart:
    """The start of a command of `zpipe plan` that was run without zpipe: the same in every rank."""
    return AttemptStart(run_id=hashlib.sha256(folder.plan.read_bytes()).hexdigest()[:32])


def first_start(folder: RunFolder) -> AttemptStart | None:
    """The start of the first attempt that wrote it; one that was killed before has no checkpoints.

    Raises Refusal if the file is damaged.
    """
    for attempt in folder.attempts:
        if attempt.start.exists():
            return read_start(attempt)
    return None
