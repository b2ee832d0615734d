"""Which ranks failed and how, from the launcher's log."""

import re
import signal
from dataclasses import dataclass
from datetime import datetime

from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.foreign_files import read_end

# The table is the only place where torchrun reports every failed rank. Its error files come from @record and
# hold Python exceptions alone: a rank that a signal killed or that called exit() leaves none, and then the
# agent writes no TORCHELASTIC_ERROR_FILE either. Its event log has exit codes but no times.
_FAILURE = re.compile(
    r"^\[(?P<index>\d+)\]:\s+time\s+: (?P<time>\S+)\s+host\s+: .*\s+"
    r"rank\s+: (?P<rank>\d+) \(local_rank: \d+\)\s+exitcode\s+: (?P<code>-?\d+) ",
    re.MULTILINE,
)
"""One failure in the table; upstream: torch/distributed/elastic/multiprocessing/errors/__init__.py."""


@dataclass(frozen=True)
class RankExit:
    """How the process of one rank ended."""

    rank: int
    exit_code: int
    """Negative: the signal that ended the process."""
    time: float
    """Unix time, to the second."""

    @property
    def signal_name(self) -> str | None:
        if self.exit_code >= 0:
            return None
        try:
            return signal.Signals(-self.exit_code).name
        except ValueError:
            return f"signal {-self.exit_code}"


_MOST_BYTES = 1 << 24
"""The table of failures is at the end."""


def read_rank_exits(attempt: Attempt) -> list[RankExit]:
    """Every rank that did not exit with 0, the first failure first; empty if the log has no table."""
    try:
        return parse_rank_exits(read_end(attempt.launcher_log, _MOST_BYTES))
    except (OSError, ValueError):
        return []


def parse_rank_exits(text: str) -> list[RankExit]:
    """The failures in a launcher's log; torchrun numbers them in the order in which it noticed them."""
    found = sorted(_FAILURE.finditer(text), key=lambda match: (match["time"], int(match["index"])))
    return [RankExit(int(match["rank"]), int(match["code"]), _seconds(match["time"])) for match in found]


def _seconds(text: str) -> float:
    """Unix time from the local time that the agent prints."""
    return datetime.strptime(text, "%Y-%m-%d_%H:%M:%S").astimezone().timestamp()
