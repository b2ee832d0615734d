"""How each point of a sweep ended: `ledger.jsonl`, with a line when a point starts and a line when it ends.

Each line is appended with a single write, so that the processes of a parallel launcher can share the file.
The last line about an attempt counts. An incomplete line is skipped.
"""

import math
from collections.abc import Iterable
from pathlib import Path, PurePath

from pydantic import ConfigDict, ValidationError

from zpipe.redact import redact_override
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.foreign_files import read_bytes
from zpipe.runfolder.json_lines import append_line
from zpipe.runfolder.outcome import Outcome, read_outcome
from zpipe.schema.base import Group

FILE_NAME = "ledger.jsonl"
UNFINISHED = "unfinished"
REFUSED = "refused"
SETTLED = frozenset({"finished", "gpu_out_of_memory", "host_out_of_memory", REFUSED})
"""Endings that another attempt would not change: running out of memory is a result."""

_IRRELEVANT = ("tracking.", "launcher.env.", "hydra.", "hydra/")
"""Prefixes of overrides that do not change the point: where it is recorded, and with which credentials."""


class Attempt(Group):
    """One attempt at one point. Its objective may be NaN or infinite, like a loss."""

    model_config = ConfigDict(allow_inf_nan=True)

    folder: str
    """Run folder, relative to the sweep folder."""
    overrides: list[str]
    """As typed, without secrets."""
    session: int
    """How often the sweep had been resumed before this attempt."""
    ending: str = UNFINISHED
    reason: str = ""
    objective: float | None = None
    summary: dict[str, float] = {}
    mlflow_run_id: str | None = None

    @property
    def is_settled(self) -> bool:
        return self.ending in SETTLED

    @property
    def is_refused(self) -> bool:
        return self.ending == REFUSED

    @property
    def point(self) -> frozenset[str]:
        """The identity of the point: equal for two attempts at the same point."""
        return identity(self.overrides)

    @property
    def settings(self) -> dict[str, str]:
        """Value of each override by its key."""
        return {key: value.strip("'") for key, _, value in (text.partition("=") for text in self.overrides)}

    def with_outcome(self, outcome: Outcome) -> "Attempt":
        """A copy with the outcome of the run."""
        return self.model_copy(
            update={
                "ending": outcome.ending,
                "reason": outcome.reason,
                "objective": outcome.objective,
                "summary": outcome.summary,
                "mlflow_run_id": outcome.mlflow_run_id,
            }
        )


def identity(overrides: Iterable[str]) -> frozenset[str]:
    """The overrides that affect training, in any order."""
    return frozenset(redact_override(text) for text in overrides if not text.startswith(_IRRELEVANT))


def new_attempt(folder: str, overrides: Iterable[str], session: int) -> Attempt:
    """An attempt that starts now."""
    return Attempt(folder=folder, overrides=[redact_override(text) for text in overrides], session=session)


def with_result(run_dir: Path, attempt: Attempt) -> Attempt:
    """The attempt with the outcome in its run folder, if the ledger lacks one because zpipe was killed."""
    outcome = read_outcome(RunFolder(run_dir))
    return attempt if outcome is None or attempt.ending != UNFINISHED else attempt.with_outcome(outcome)


def append(sweep_dir: Path, attempt: Attempt) -> None:
    """Appends the current state of an attempt."""
    append_line(sweep_dir / FILE_NAME, attempt.model_dump())


def reopen(sweep_dir: Path, attempt: Attempt) -> None:
    """Lets the next session run a settled point again."""
    append(sweep_dir, attempt.model_copy(update={"ending": UNFINISHED, "reason": ""}))


def attempts(sweep_dir: Path) -> list[Attempt]:
    """Every attempt in its last recorded state, in the order of their folders' numbers."""
    try:
        lines = read_bytes(sweep_dir / FILE_NAME).splitlines()
    except OSError:
        lines = []
    found = {attempt.folder: attempt for line in lines if (attempt := decode(line)) is not None}
    return sorted(found.values(), key=order)


def points(sweep_dir: Path) -> list[Attempt]:
    """The attempts that count: a later attempt at the same point replaces an unsettled one."""
    groups: dict[frozenset[str], list[Attempt]] = {}
    for attempt in attempts(sweep_dir):
        groups.setdefault(attempt.point, []).append(attempt)
    counting = [attempt for group in groups.values() for attempt in _counting(group)]
    return sorted(counting, key=order)


def superseded(sweep_dir: Path) -> list[tuple[Attempt, Attempt]]:
    """Attempts that no longer count, each with the attempt that replaced it."""
    counting = points(sweep_dir)
    folders = {attempt.folder for attempt in counting}
    successor = {attempt.point: attempt for attempt in counting}
    return [
        (attempt, successor[attempt.point])
        for attempt in attempts(sweep_dir)
        if attempt.folder not in folders
    ]


def objective_of(attempt: Attempt, worst: float) -> float:
    """The value to return to the sweeper: `worst` for an attempt without an objective."""
    value = attempt.objective
    return worst if value is None or math.isnan(value) else value


def _counting(group: list[Attempt]) -> list[Attempt]:
    """Of several attempts at one point: the settled ones, else those of the latest session.

    A sampler may deliberately try one point several times in a session.
    """
    settled = [attempt for attempt in group if attempt.is_settled]
    latest = max(attempt.session for attempt in group)
    return settled or [attempt for attempt in group if attempt.session == latest]


def order(attempt: Attempt) -> tuple[int, str]:
    """The order of the folders' numbers."""
    number = attempt.folder.partition("-")[0]
    return (int(number) if number.isdigit() else 1 << 30, attempt.folder)


def decode(line: bytes) -> Attempt | None:
    """The attempt in a line of the ledger; None for a damaged line."""
    try:
        attempt = Attempt.model_validate_json(line)
    except (ValidationError, RecursionError):
        return None
    folder = PurePath(attempt.folder)
    return None if folder.is_absolute() or ".." in folder.parts else attempt
