"""Which ranks ended badly and how, as the launcher's log has it."""

import re
import signal
from dataclasses import dataclass
from datetime import datetime

from zpipe.runfolder.folder import Attempt

_ELASTIC = re.compile(
    r"time\s+: (?P<time>\S+)\s+host\s+: .*\s+rank\s+: (?P<rank>\d+) \(local_rank: \d+\)\s+"
    r"exitcode\s+: (?P<code>-?\d+) "
)
"""One failure in the table that PyTorch's agent prints
(torch/distributed/elastic/multiprocessing/errors/__init__.py)."""


@dataclass(frozen=True)
class Death:
    """The end of one rank."""

    rank: int
    exit_code: int
    """Of the process; negative: the signal that ended it."""
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


def read_deaths(attempt: Attempt) -> list[Death]:
    """Every rank that did not end with 0, the first one first; empty where the log says nothing."""
    log = attempt.launcher_log
    if not log.is_file():
        return []
    return parse_deaths(log.read_text(errors="replace"))


def parse_deaths(text: str) -> list[Death]:
    """The failures in a launcher's log."""
    found = [
        Death(int(match["rank"]), int(match["code"]), _seconds(match["time"]))
        for match in _ELASTIC.finditer(text)
    ]
    return sorted(found, key=lambda death: (death.time, death.rank))


def _seconds(text: str) -> float:
    """Local time, as the agent prints it."""
    return datetime.strptime(text, "%Y-%m-%d_%H:%M:%S").astimezone().timestamp()
