"""Node 0 of several: it begins the run when all nodes are there and agree."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby

from zpipe.checkpoints.home import is_divided
from zpipe.hostlist import hosts_text, nodes_text
from zpipe.machine.network import listening
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.member import JOIN_SECONDS
from zpipe.running.node_local import agree, intact_steps
from zpipe.supervise.nodes import Nodes
from zpipe.supervise.supervisor import POLL_SECONDS
from zpipe.terminal.console import say

_SAY_SECONDS = 30.0
CLOCK_SECONDS = 2.0
"""A larger difference confuses whoever compares logs and metrics of nodes."""
_OTHERS_SECONDS = 30.0
"""How long the other nodes have to say what they lack, once one was refused: the run will not begin."""
_NAME_SECONDS = 20.0


def nodes_of(plan: Plan) -> Nodes | None:
    """None for a run of one machine, or of the hosts in a hostfile."""
    settings = plan.experiment.launcher
    return Nodes(folder_of(plan).attempt, settings) if settings.nodes > 1 else None


def gather(plan: Plan, nodes: Nodes, seconds: float = JOIN_SECONDS) -> None:
    """Waits until every node is ready, and starts the run. Raises Refusal that names each that is not."""
    settings = plan.experiment.launcher
    host, port = str(settings.master_addr), settings.master_port
    try:
        wait_for_name(host, port, nodes)
        with listening(host, port):
            nodes.tell("waiting")
            own = _own_steps(plan, nodes)
            _wait_for_all(nodes, seconds)
    except OSError as error:
        reason = f"this node cannot listen there on port {port}: {error.strerror or error}"
        fix = "the address of node 0, and a free port: launcher.master_port"
        raise Refusal([Problem("launcher.master_addr", host, reason, fix=fix)]) from error
    for note in nodes.ready():
        if note.clock_ahead_s is not None and abs(note.clock_ahead_s) > CLOCK_SECONDS:
            say(f"warning: the clock of node {note.node} ({note.host}) is {clock_text(note.clock_ahead_s)}")
    if is_divided(plan):
        agree(plan, folder_of(plan).attempt, {0: own, **nodes.parts()}, say)
    nodes.tell("started")


def clock_text(ahead_s: float) -> str:
    """For messages: how the clock of a node differs from that of node 0."""
    return f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} that of node 0"


def _own_steps(plan: Plan, nodes: Nodes) -> list[int]:
    """The others verify their parts of the checkpoints at the same time."""
    if not is_divided(plan):
        return []
    with nodes.preparing():
        return intact_steps(plan, say)


def wait_for_name(host: str, port: int, nodes: Nodes) -> None:
    """Returns once the name of this node is known, or after some seconds: a pod is older than its name."""
    deadline = time.monotonic() + _NAME_SECONDS
    while time.monotonic() < deadline:
        with suppress(socket.gaierror):
            socket.getaddrinfo(host, port)
            return
        nodes.tell()
        time.sleep(POLL_SECONDS)


def _wait_for_all(nodes: Nodes, seconds: float) -> None:
    deadline, said = time.monotonic() + seconds, -_SAY_SECONDS
    while pending := nodes.pending():
        if nodes.refused():
            deadline = min(deadline, time.monotonic() + _OTHERS_SECONDS)
        if time.monotonic() > deadline:
            break
        if time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            say(
                f"waiting for {nodes_text(pending)}: start the same command there with its launcher.node_rank"
            )
        nodes.tell()
        time.sleep(POLL_SECONDS)
    refuse_if_any(refusals(nodes, pending, seconds))


def refusals(nodes: Nodes, pending: list[int], seconds: float = JOIN_SECONDS) -> list[Problem]:
    """The nodes that cannot take part, and those that did not join."""
    problems = [Problem(where, "", reason) for reason, where in _refused(nodes)]
    if pending:
        seconds = _OTHERS_SECONDS if problems else seconds
        reason = f"{nodes_text(pending)} did not join within {seconds:.0f} s"
        fix = "start zpipe there, with the same hydra.run.dir on a shared file system"
        problems.append(Problem("launcher.nodes", "", reason, fix=fix))
    return problems


def _refused(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Each reason, and the nodes that have it."""
    notes = sorted(nodes.refused(), key=lambda note: note.reason)
    for reason, same in groupby(notes, key=lambda note: note.reason):
        found = list(same)
        hosts = hosts_text(note.host for note in found)
        yield reason, f"{nodes_text([note.node for note in found])} ({hosts})"
