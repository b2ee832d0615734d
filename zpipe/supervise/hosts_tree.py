"""The processes of a launch over ssh: the runner here, and on each host what its agent watches."""

import time
from collections.abc import Callable

from zpipe.launchers.rank_exits import RankExit
from zpipe.supervise.hosts import Hosts
from zpipe.supervise.tree import GRACE_SECONDS, STACK_SECONDS, ProcessTree

_POLL_SECONDS = 0.1
_KILL_SECONDS = 3.0


class HostsTree(ProcessTree):
    """Ends the ranks through the agents, and the runner by SIGKILL alone (zpipe/supervise/hosts.py)."""

    def __init__(self, pid: int, hosts: Hosts) -> None:
        super().__init__(pid)
        self._hosts = hosts
        self._seen: dict[int, RankExit] = {}

    def resident_bytes(self) -> int:
        return super().resident_bytes() + sum(link.report.resident for link in self._hosts.links)

    def rank_states(self) -> dict[int, str]:
        states = {rank: state for link in self._hosts.links for rank, state in link.report.states.items()}
        return dict(sorted(states.items()))

    def look_for_ended_ranks(self) -> None:
        for link in self._hosts.links:
            for rank, code in link.report.exits.items():
                self._seen.setdefault(rank, RankExit(rank, code, time.time()))

    def rank_exits(self) -> tuple[RankExit, ...]:
        self.look_for_ended_ranks()
        return tuple(self._seen.values())

    def write_stacks(self) -> None:
        self._hosts.order("stacks")
        time.sleep(2 * STACK_SECONDS)

    def end(self, patience: Callable[[], bool]) -> None:
        if patience():
            self._hosts.order("stop")
            self._wait(GRACE_SECONDS, patience)
        self._hosts.order("kill")
        self._wait(_KILL_SECONDS, lambda: True)
        super().end(lambda: False)

    def _wait(self, seconds: float, patience: Callable[[], bool]) -> None:
        """Until the launch has ended on every host that can be asked."""
        deadline = time.monotonic() + seconds
        while self._hosts.alive and time.monotonic() < deadline and patience():
            time.sleep(_POLL_SECONDS)
