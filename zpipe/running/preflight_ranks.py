"""The ranks of `zpipe doctor --launch`: started as in a run, and what they could not do."""

import time
from collections import defaultdict
from collections.abc import Iterator

from zpipe.hostlist import hosts_text, numbers_text
from zpipe.launchers import launcher_of
from zpipe.launchers.logs import launcher_lines
from zpipe.machine.guard import guarded
from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.preflight import node_reports, rank_reports
from zpipe.supervise.nodes import Nodes
from zpipe.supervise.stops import signals_noted
from zpipe.supervise.supervisor import POLL_SECONDS, launch_environment
from zpipe.supervise.tree import ProcessTree

MEASURE_SECONDS = 60.0
"""For what the ranks do beside waiting for each other: imports, and the measurement."""
LEAVE_SECONDS = 20.0
"""How long node 0 waits for the last note of the others before it removes their folder."""


def run_ranks(plan: Plan, attempt: Attempt, nodes: Nodes | None) -> bool:
    """Whether the ranks of this node did all they should, within the timeout of a node and a minute."""
    deadline = time.monotonic() + plan.experiment.launcher.node_timeout_s + MEASURE_SECONDS
    attempt.logs.mkdir(parents=True, exist_ok=True)
    with guarded("ZPIPE_LAUNCH_ID") as mark:
        launcher = launcher_of(plan.launch.launcher)
        process = launcher.start(plan, attempt, {**mark, **launch_environment(plan)})
        tree = ProcessTree(process.pid)
        try:
            while process.poll() is None and time.monotonic() < deadline:
                tree.refresh()
                if nodes is not None:
                    nodes.tell()
                    if nodes.failed() is not None:
                        break
                time.sleep(POLL_SECONDS)
        finally:
            with signals_noted():
                tree.end(patience=lambda: False)
    return process.wait() == 0


def wait_for_others(nodes: Nodes) -> None:
    """Until each node that joined has told its end, for a while."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while nodes.working() and time.monotonic() < deadline:
        nodes.tell()
        time.sleep(POLL_SECONDS)


def complaints(plan: Plan, attempt: Attempt, nodes: Nodes | None) -> list[Problem]:
    """The lost node, or the ranks that did not do everything, with their hosts; the same reason once."""
    lost = None if nodes is None else nodes.lost()
    if lost is not None:
        return [Problem(f"node {lost.node} ({lost.host})", "", lost.reason)]
    hosts = {report.node: report.host for report in node_reports(attempt, plan.launch.nodes)}
    by_reason: dict[str, list[int]] = defaultdict(list)
    for rank, reason in _unfinished(plan, attempt):
        by_reason[reason].append(rank)
    found = []
    for reason, ranks in by_reason.items():
        numbers = {rank // plan.launch.nproc_per_node for rank in ranks}
        names = hosts_text(hosts.get(node, "unknown host") for node in numbers)
        which = f"rank{'s' if len(ranks) > 1 else ''} {numbers_text(ranks)}"
        found.append(Problem(f"{which} ({names})", "", reason))
    return found


def _unfinished(plan: Plan, attempt: Attempt) -> Iterator[tuple[int, str]]:
    told = {report.rank: report for report in rank_reports(attempt, plan.launch.world_size)}
    for rank in range(plan.launch.world_size):
        report = told.get(rank)
        if report is None:
            node = rank // plan.launch.nproc_per_node
            last = launcher_lines(Attempt(attempt.path, node), 1)
            yield rank, "did not start" + "".join(f": {line}" for line in last)
        elif report.stage != "measured":
            step = "join the others" if report.stage == "started" else "finish the all-reduce"
            yield rank, f"did not {step}" + (f": {report.error}" if report.error else "")
