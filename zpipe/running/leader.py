"""Node 0 of several: it begins the run when all nodes are there and agree."""

import time

from zpipe.machine.network import listening
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.member import JOIN_SECONDS
from zpipe.supervise.nodes import Nodes
from zpipe.supervise.supervisor import POLL_SECONDS
from zpipe.terminal.console import say

_SAY_SECONDS = 30.0


def nodes_of(plan: Plan) -> Nodes | None:
    """None for a run of one machine, or of the hosts in a hostfile."""
    settings = plan.experiment.launcher
    return Nodes(folder_of(plan).attempt, settings) if settings.nodes > 1 else None


def gather(plan: Plan, nodes: Nodes) -> None:
    """Waits until every node is ready, and starts the run. Raises Refusal that names each that is not."""
    settings = plan.experiment.launcher
    host, port = str(settings.master_addr), settings.master_port
    try:
        with listening(host, port):
            _wait_for_all(nodes)
    except OSError as error:
        reason = f"this node cannot listen there on port {port}: {error.strerror or error}"
        fix = "the address of node 0, and a free port: launcher.master_port"
        raise Refusal([Problem("launcher.master_addr", host, reason, fix=fix)]) from error
    nodes.tell("started")


def _wait_for_all(nodes: Nodes) -> None:
    nodes.tell("waiting")
    deadline, said = time.monotonic() + JOIN_SECONDS, -_SAY_SECONDS
    while pending := nodes.pending():
        if time.monotonic() > deadline:
            break
        if time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            say(f"waiting for {_named(pending)}: start the same command there with its launcher.node_rank")
        nodes.tell()
        time.sleep(POLL_SECONDS)
    refuse_if_any(_problems(nodes, pending))


def _problems(nodes: Nodes, pending: list[int]) -> list[Problem]:
    refused = [note for note in nodes.others() if note.state == "refused"]
    problems = [Problem(f"node {note.node} ({note.host})", "", note.reason) for note in refused]
    if pending:
        reason = f"{_named(pending)} did not join within {JOIN_SECONDS:.0f} s"
        fix = "start zpipe there, with the same hydra.run.dir on a shared file system"
        problems.append(Problem("launcher.nodes", "", reason, fix=fix))
    return problems


def _named(nodes: list[int]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {', '.join(map(str, nodes))}"
