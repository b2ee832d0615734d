"""Finds the first failure: when one rank fails, the errors and exits of the others follow from it."""

import re
import signal

from zpipe.diagnose.evidence import Evidence, RankError
from zpipe.launchers.rank_exits import RankExit

SIGNAL_SECONDS = 1.0
"""The launcher reports the time of an exit to the second."""

_CONSEQUENCE = re.compile(
    r"closed by peer|reset by peer|Broken pipe|gloo/transport|remote process|ncclRemoteError|"
    r"communicator was aborted|TCPStore|recvValue failed|Connection refused",
    re.IGNORECASE,
)
"""Errors of a rank whose peer went away."""


def root_error(evidence: Evidence) -> RankError | None:
    """The first exception that another rank did not cause; None if a signal had killed a rank before."""
    causes = [error for error in evidence.errors if not _CONSEQUENCE.search(error.message)]
    first = next(iter(causes), None)
    killed = _first_killed(evidence)
    if killed is not None and (first is None or first.time > killed.time + SIGNAL_SECONDS):
        return None
    return first or next(iter(evidence.errors), None)


def root_exit(evidence: Evidence) -> RankExit | None:
    """The first failed rank, if no exception explains it."""
    if root_error(evidence) is not None:
        return None
    return _first_killed(evidence) or next(iter(evidence.rank_exits), None)


def is_consequence(evidence: Evidence) -> bool:
    """Whether nothing on this node is more than the consequence of a failure elsewhere."""
    causes = [error for error in evidence.errors if not _CONSEQUENCE.search(error.message)]
    return not causes and _first_killed(evidence) is None


def _first_killed(evidence: Evidence) -> RankExit | None:
    """The first rank that a signal killed; SIGTERM is left out, because the launcher sends it to the rest."""
    signals = ((each, -each.exit_code) for each in evidence.rank_exits)
    return next((each for each, number in signals if number > 0 and number != signal.SIGTERM), None)


def error_of_type(evidence: Evidence, name: str) -> RankError | None:
    """The first exception of a class, by its name."""
    return next((error for error in evidence.errors if error.type == name), None)
