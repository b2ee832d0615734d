"""Which ranks failed and how, from the logs of the launcher and of the ranks."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from zpipe.launchers.logs import tail
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.foreign_files import read_end

# The table is the only place where torchrun reports every failed rank. Its error files come from @record and
# hold Python exceptions alone: a rank that a signal killed or that called exit() leaves none, and then the
# agent writes no TORCHELASTIC_ERROR_FILE either. Its event log has exit codes but no times.
_FAILURE = re.compile(
    r"^\[(?P<index>\d+)\]:\s+time\s+: (?P<time>\S+)\s+host\s+: .*\s+"
    r"rank\s+: \d+ \(local_rank: (?P<local>\d+)\)\s+exitcode\s+: (?P<code>-?\d+) ",
    re.MULTILINE,
)
"""One failure in the table; upstream: torch/distributed/elastic/multiprocessing/errors/__init__.py."""

# DeepSpeed's launcher reports the exit code of the first rank that failed, and not which one that is.
_RETURN_CODE = re.compile(
    r"^(?:[\w.-]+: )?\[(?P<time>\S+ [\d:]+),\d+\].*exits with return code = (?P<code>-?\d+)$", re.MULTILINE
)
"""Upstream: deepspeed/launcher/launch.py. pdsh puts the host in front."""


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


_RANK = re.compile(r"_rank(\d+)\.log$")
_MOST_BYTES = 1 << 24
"""The table of failures is at the end."""


def read_rank_exits(attempt: Attempt, seen: Sequence[RankExit] = ()) -> list[RankExit]:
    """The ranks that did not exit with 0, the first failure first; empty if nothing tells.

    torchrun's table is complete. Under other launchers, what the supervisor has seen comes first.
    """
    try:
        text = read_end(attempt.launcher_log, _MOST_BYTES)
        return (
            parse_rank_exits(text, attempt.first_rank) or list(seen) or _exit_under_deepspeed(attempt, text)
        )
    except (OSError, ValueError):
        return list(seen)


def parse_rank_exits(text: str, first_rank: int = 0) -> list[RankExit]:
    """The failures in the log of a node's launcher, in the order in which torchrun noticed them.

    Of ranks only the local number counts: c10d numbers the nodes in an order of its own.
    """
    found = sorted(_FAILURE.finditer(text), key=lambda match: (match["time"], int(match["index"])))
    return [
        RankExit(
            first_rank + int(match["local"]), int(match["code"]), _seconds(match["time"], "%Y-%m-%d_%H:%M:%S")
        )
        for match in found
    ]


def _exit_under_deepspeed(attempt: Attempt, text: str) -> list[RankExit]:
    """Under DeepSpeed's launcher: the first rank that neither the launcher nor an exception ended."""
    from zpipe.train.signals import ENDED_BY_LAUNCHER

    match = _RETURN_CODE.search(text)
    ranks = {int(found[1]): log for log in attempt.rank_logs("stderr") if (found := _RANK.search(log.name))}
    failed = [rank for rank in sorted(ranks) if tail(ranks[rank], 1) != [ENDED_BY_LAUNCHER]]
    if match is None or not failed:
        return []
    silent = [rank for rank in failed if not attempt.rank_error(rank).exists()]
    first = (silent or failed)[0]
    return [RankExit(first, int(match["code"]), _seconds(match["time"], "%Y-%m-%d %H:%M:%S"))]


def _seconds(text: str, form: str) -> float:
    """Unix time from the local time that a launcher prints."""
    return datetime.strptime(text, form).astimezone().timestamp()
