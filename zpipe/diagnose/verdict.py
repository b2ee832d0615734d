"""What a classification rule returns, and the phrases that several rules share."""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from zpipe.diagnose.evidence import Evidence, RankError
from zpipe.runfolder.outcome import Ending


@dataclass(frozen=True)
class Verdict:
    """How the run ended, and why, in one line."""

    ending: Ending
    reason: str = ""
    rank: int | None = None
    """The rank that failed first, if one did."""


Rule = Callable[[Evidence], Verdict | None]


def from_error(ending: Ending, evidence: Evidence, error: RankError) -> Verdict:
    """The verdict for an exception, with its rank, phase and message as the reason."""
    return Verdict(ending, f"rank {error.rank} {where(evidence)}: {error.line}", error.rank)


def where(evidence: Evidence) -> str:
    """The phase, and the last step in phases that have steps."""
    progress = evidence.progress
    if progress.phase in ("train", "evaluate", "save"):
        return f"in phase {progress.phase} after step {progress.step}"
    return f"in phase {progress.phase}" if progress.phase else "before the workers reported anything"


def agent_signal(evidence: Evidence) -> int | None:
    """The signal that killed the launcher itself, which zpipe did not send."""
    number = -(evidence.returncode or 0)
    sent_by_zpipe = evidence.stopped_by is not None or evidence.silence is not None
    return None if sent_by_zpipe or number not in set(signal.Signals) else number


def matching_line(evidence: Evidence, rank: int, pattern: re.Pattern[str]) -> str | None:
    """The first of a rank's last lines that matches."""
    lines = evidence.lines.get(rank, ())
    return next((line.strip() for line in lines if pattern.search(line)), None)
