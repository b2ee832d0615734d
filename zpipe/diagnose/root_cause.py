"""Which error or death came first: of several ranks one goes down and takes the others along."""

import re
import signal

from zpipe.diagnose.evidence import Evidence, RankError
from zpipe.launchers.rank_exits import Death

SIGNAL_SECONDS = 1.0
"""The launcher tells the time of a death to the second."""

_CONSEQUENCE = re.compile(
    r"closed by peer|reset by peer|Broken pipe|gloo/transport|remote process|ncclRemoteError|"
    r"communicator was aborted|TCPStore|recvValue failed|Connection refused",
    re.IGNORECASE,
)
"""What a rank says when another one went away under it."""


def root_error(evidence: Evidence) -> RankError | None:
    """The first exception that was not another rank's fault; None if a rank had died before."""
    causes = [error for error in evidence.errors if not _CONSEQUENCE.search(error.message)]
    first = next(iter(causes), None)
    death = _first_kill(evidence)
    if death is not None and (first is None or first.time > death.time + SIGNAL_SECONDS):
        return None
    return first or next(iter(evidence.errors), None)


def root_death(evidence: Evidence) -> Death | None:
    """The first death that no exception explains."""
    if root_error(evidence) is not None:
        return None
    return _first_kill(evidence) or next(iter(evidence.deaths), None)


def _first_kill(evidence: Evidence) -> Death | None:
    """The first rank that a signal ended; SIGTERM is the launcher's own, sent to the ranks that are left."""
    fatal = (death for death in evidence.deaths if death.exit_code < 0 and -death.exit_code != signal.SIGTERM)
    return next(fatal, None)


def error_of_type(evidence: Evidence, name: str) -> RankError | None:
    """The first exception of a class, by its name."""
    return next((error for error in evidence.errors if error.type == name), None)
