"""Which point of a sweep ended how: `ledger.jsonl`, a line when a point starts and a line when it ends.

A line is appended with a single write, so that the processes of a parallel launcher share the file. What is
written last about an attempt holds; a torn line costs itself alone.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from zpipe.redact import redact_override
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.json_lines import append_line
from zpipe.runfolder.outcome import Outcome, read_outcome
from zpipe.schema.base import Group

FILE_NAME = "ledger.jsonl"
UNFINISHED = "unfinished"
SETTLED = frozenset({"finished", "gpu_out_of_memory", "host_out_of_memory"})
"""Endings that another attempt would not change: running out of memory is a result."""

_SURROUNDINGS = ("tracking.", "launcher.env.", "hydra.", "hydra/")
"""Where a point is recorded and with which credentials makes it no other point."""


class Attempt(Group):
    """One point, tried once. Its objective may be no number: so may a loss."""

    model_config = ConfigDict(allow_inf_nan=True)

    folder: str
    """Run folder, below the sweep folder."""
    overrides: list[str]
    """As typed, without secrets."""
    session: int
    """How often the sweep had been resumed then."""
    ending: str = UNFINISHED
    reason: str = ""
    objective: float | None = None
    summary: dict[str, Any] = {}
    mlflow_run_id: str | None = None

    @property
    def is_settled(self) -> bool:
        return self.ending in SETTLED

    @property
    def point(self) -> frozenset[str]:
        """What makes two attempts the same point."""
        return identity(self.overrides)

    @property
    def settings(self) -> dict[str, str]:
        """Value of each override by its key."""
        return {key: value.strip("'") for key, _, value in (text.partition("=") for text in self.overrides)}

    def ended(self, outcome: Outcome) -> "Attempt":
        """The same attempt with its end."""
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
    """The overrides that decide what is trained, in any order."""
    return frozenset(redact_override(text) for text in overrides if not text.startswith(_SURROUNDINGS))


def begun(folder: str, overrides: Iterable[str], session: int) -> Attempt:
    """An attempt that starts now."""
    return Attempt(folder=folder, overrides=[redact_override(text) for text in overrides], session=session)


def as_it_ended(run_dir: Path, attempt: Attempt) -> Attempt:
    """The attempt with its end, which its workers may have come to though zpipe was killed."""
    outcome = read_outcome(RunFolder(run_dir))
    return attempt if outcome is None or attempt.ending != UNFINISHED else attempt.ended(outcome)


def note(sweep_dir: Path, attempt: Attempt) -> None:
    """Appends what is known about an attempt now."""
    append_line(sweep_dir / FILE_NAME, attempt.model_dump())


def attempts(sweep_dir: Path) -> list[Attempt]:
    """Every attempt, in the order of their folders' numbers, each as it was noted last."""
    file = sweep_dir / FILE_NAME
    lines = file.read_bytes().splitlines() if file.is_file() else []
    found = {attempt.folder: attempt for line in lines if (attempt := _decode(line)) is not None}
    return sorted(found.values(), key=_order)


def points(sweep_dir: Path) -> list[Attempt]:
    """The attempts that count: a later attempt at the same point takes the place of an unsettled one."""
    groups: dict[frozenset[str], list[Attempt]] = {}
    for attempt in attempts(sweep_dir):
        groups.setdefault(attempt.point, []).append(attempt)
    counting = [attempt for group in groups.values() for attempt in _counting(group)]
    return sorted(counting, key=_order)


def superseded(sweep_dir: Path) -> list[tuple[Attempt, Attempt]]:
    """Attempts that no longer count, each with the one that took its place."""
    standing = points(sweep_dir)
    names = {attempt.folder for attempt in standing}
    successor = {attempt.point: attempt for attempt in standing}
    return [
        (attempt, successor[attempt.point]) for attempt in attempts(sweep_dir) if attempt.folder not in names
    ]


def settled_before(sweep_dir: Path, overrides: Iterable[str], session: int) -> Attempt | None:
    """A settled attempt at this point from before the session, or None."""
    wanted = identity(overrides)
    for attempt in attempts(sweep_dir):
        if attempt.session < session and attempt.is_settled and attempt.point == wanted:
            return attempt
    return None


def _counting(group: list[Attempt]) -> list[Attempt]:
    """Of attempts at one point: the settled ones, else those of the latest session.

    A sampler may try one point several times in a session, and means it.
    """
    settled = [attempt for attempt in group if attempt.is_settled]
    latest = max(attempt.session for attempt in group)
    return settled or [attempt for attempt in group if attempt.session == latest]


def _order(attempt: Attempt) -> tuple[int, str]:
    number = attempt.folder.partition("-")[0]
    return (int(number) if number.isdigit() else 1 << 30, attempt.folder)


def _decode(line: bytes) -> Attempt | None:
    try:
        values = json.loads(line)
        if isinstance(values.get("objective"), str):
            values["objective"] = float(values["objective"])
        return Attempt.model_validate(values)
    except (ValueError, AttributeError):
        return None


def objective_of(attempt: Attempt, worst: float) -> float:
    """What a sweeper is told; the worst value for an attempt that came to no figure."""
    value = attempt.objective
    return worst if value is None or math.isnan(value) else value
