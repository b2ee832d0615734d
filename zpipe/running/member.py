"""A node that is not node 0: it waits for the run to begin there, takes part, and ends as the run does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zpipe.checkpoints.home import is_divided
from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence, from_folder
from zpipe.diagnose.root_cause import is_consequence
from zpipe.launchers import launcher_of
from zpipe.launchers.logs import hide_secrets
from zpipe.machine.guard import guarded
from zpipe.machine.network import reach
from zpipe.machine.probes import missing_requirements
from zpipe.plans.agreement import disagreements
from zpipe.plans.changes import is_longer
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.nodes import read_note
from zpipe.runfolder.outcome import Ending, Outcome, read_outcome
from zpipe.runfolder.pace import Every, pace_of
from zpipe.runfolder.plan_file import folder_of, read_plan
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.swap_folder import remove_swap_folder
from zpipe.running.conclusion import reasons, refuse
from zpipe.running.node_local import intact_steps
from zpipe.running.start import for_attempt
from zpipe.schema.experiment import Experiment
from zpipe.schema.launcher import Launcher
from zpipe.supervise.graceful import GracefulStop
from zpipe.supervise.nodes import Nodes, with_other_node
from zpipe.supervise.stops import Caught, in_batch_job, signals_noted
from zpipe.supervise.supervisor import POLL_SECONDS, Follower, launch_environment
from zpipe.supervise.tree import ProcessTree
from zpipe.terminal.console import say

JOIN_SECONDS = 600.0
"""How long the nodes wait for each other."""
REFUSAL_SECONDS = 60.0
"""How long a node without a plan looks for node 0, to tell it."""
OUTCOME_SECONDS = 90.0
"""How long the end of the run on node 0 is waited for."""


def take_part(plan: Plan) -> Outcome:
    """Runs the workers of this node in the run that node 0 begins, and returns how that run ended."""
    settings, finished = plan.experiment.launcher, _finished(plan)
    if finished is not None:
        say(f"this run has finished: {plan.run_dir}")
        return finished
    nodes: Nodes | None = None
    with signals_noted() as caught:
        try:
            with signals_noted(interrupt_at=1):
                say(f"node {settings.node_rank}: waiting for node 0 to begin the run in {plan.run_dir}")
                attempt = begun(plan)
                nodes = Nodes(attempt, settings)
                be_ready(plan, nodes)
        except Refusal as refusal:
            return refuse(folder_of(plan).path, refusal.problems)
        except KeyboardInterrupt:
            verdict = classify(Evidence(returncode=1, stopped_by=caught.number, in_batch_job=in_batch_job()))
            if nodes is not None:
                nodes.tell("ended", ending=verdict.ending, reason=verdict.reason, is_cause=True)
            return Outcome(ending=verdict.ending, reason=verdict.reason, run_dir=plan.run_dir)
        return _train(plan, attempt, nodes, caught)


def _finished(plan: Plan) -> Outcome | None:
    """The outcome of a run that has nothing left to do: node 0 does not begin it again."""
    folder = folder_of(plan)
    outcome = read_outcome(folder) if folder.holds_run else None
    if outcome is None or outcome.ending != "finished" or is_longer(read_plan(folder.path), plan):
        return None
    return outcome


def tell_refusal(experiment: Experiment, run_dir: Path, refusal: Refusal) -> None:
    """Tells node 0, if it waits, that this node has no plan."""
    with suppress(Refusal):  # node 0 has given up already
        attempt = _waiting_attempt(RunFolder(run_dir), experiment.launcher, REFUSAL_SECONDS)
        if attempt is not None:
            nodes = Nodes(attempt, experiment.launcher)
            nodes.tell("refused", reason=reasons(refusal.problems), is_cause=True)


def begun(plan: Plan, seconds: float = JOIN_SECONDS) -> Attempt:
    """The attempt in which node 0 waits. Raises Refusal."""
    settings = plan.experiment.launcher
    attempt = _waiting_attempt(folder_of(plan), settings, seconds)
    if attempt is not None:
        return Attempt(attempt.path, settings.node_rank, settings.node_rank * plan.launch.nproc_per_node)
    reason = f"node 0 has not begun a run in this folder for {seconds:.0f} s"
    allowed = "the run folder of node 0, on a file system that all nodes share"
    raise Refusal([Problem("hydra.run.dir", plan.run_dir, reason, allowed)])


def _waiting_attempt(folder: RunFolder, settings: Launcher, seconds: float) -> Attempt | None:
    """None if node 0 is not seen to live: a killed one leaves its note. Raises Refusal if it gives up."""
    deadline, seen, pace = time.monotonic() + seconds, None, pace_of(settings.nodes)
    while time.monotonic() < deadline:
        attempt = folder.attempt
        note = read_note(attempt, 0)
        is_alive = note is not None and seen is not None and seen != (attempt.path, note.beat)
        seen = seen if note is None else (attempt.path, note.beat)
        if is_alive and note is not None:
            if note.state == "waiting":
                return attempt
            if note.state == "ended":
                raise Refusal([_given_up(note.reason)])
            deadline = time.monotonic() + seconds
        time.sleep(pace.look)
    return None


def be_ready(plan: Plan, nodes: Nodes) -> None:
    """Tells node 0 whether this node can take part, and waits until the run starts. Raises Refusal."""
    with _told(nodes), nodes.preparing():
        refuse_if_any([*disagreements(read_plan(folder_of(plan).path), plan)])
        problems = missing_requirements(plan, say)
        try:
            ahead = _clock_ahead(plan)
        except OSError as error:
            problems.append(_unreachable(plan, error))
        refuse_if_any(problems)
        steps = intact_steps(plan, say) if is_divided(plan) else []
    nodes.tell("ready", clock_ahead_s=ahead, checkpoints=steps)
    _wait_for_start(nodes)


def _given_up(reason: str) -> Problem:
    return Problem("launcher.nodes", "", reason or "node 0 gave the run up")


def _clock_ahead(plan: Plan) -> float | None:
    """Seconds, by the clock of node 0, which listens while it waits. Raises OSError if it is not reached."""
    settings = plan.experiment.launcher
    behind = reach(str(settings.master_addr), settings.master_port)
    return None if behind is None else -behind


def _unreachable(plan: Plan, error: OSError) -> Problem:
    settings = plan.experiment.launcher
    reason = f"node 0 cannot be reached at port {settings.master_port}: {error.strerror or error}"
    allowed = "an address of node 0 that this node can reach"
    return Problem("launcher.master_addr", settings.master_addr, reason, allowed)


@contextmanager
def _told(nodes: Nodes) -> Iterator[None]:
    """Tells the other nodes why this one cannot take part."""
    try:
        yield
    except Refusal as refusal:
        nodes.tell("refused", reason=reasons(refusal.problems), is_cause=True)
        raise


def _wait_for_start(nodes: Nodes) -> None:
    """Raises Refusal if node 0 gives the run up."""
    while (note := nodes.first()) is None or note.state != "started":
        failed = nodes.failed()
        if failed is not None or (note is not None and note.state == "ended"):
            raise Refusal([_given_up(failed.reason if failed is not None else "")])
        nodes.tell()
        time.sleep(POLL_SECONDS)


def _train(plan: Plan, attempt: Attempt, nodes: Nodes, caught: Caught) -> Outcome:
    attempt.logs.mkdir(parents=True, exist_ok=True)
    plan = for_attempt(plan, attempt)
    progress = RunProgress()
    follower = Follower(folder_of(plan), progress)
    with guarded("ZPIPE_LAUNCH_ID") as mark:
        process = launcher_of(plan.launch.launcher).start(plan, attempt, {**mark, **launch_environment(plan)})
        tree, stop = ProcessTree(process.pid), GracefulStop(plan, progress, caught)
        looks, signals = Every(pace_of(plan.launch.nodes).look), 0
        nodes.tell("started")
        try:
            while process.poll() is None:
                if looks.is_due() or caught.count > signals:
                    signals = caught.count
                    follower.catch_up()
                tree.refresh()
                tree.look_for_ended_ranks()
                nodes.tell()
                asked = caught.number is not None and not stop.is_under_way()
                if asked or nodes.failed() is not None:
                    tree.end(patience=lambda: caught.count < 2)
                time.sleep(POLL_SECONDS)
        finally:
            tree.end(patience=lambda: False)
    follower.catch_up()
    ranks = range(attempt.first_rank, attempt.first_rank + plan.launch.nproc_per_node)
    evidence = from_folder(
        folder_of(plan),
        progress,
        (),
        attempt=attempt,
        own_ranks=ranks,
        returncode=process.wait(),
        stopped_by=caught.number,
        in_batch_job=in_batch_job(),
        seen_exits=tree.rank_exits(),
    )
    return _conclude(plan, attempt, nodes, with_other_node(evidence, nodes))


def _conclude(plan: Plan, attempt: Attempt, nodes: Nodes, evidence: Evidence) -> Outcome:
    """Tells the other nodes how this one ended, and waits for the end of the run on node 0."""
    is_cause = evidence.returncode != 0 and not is_consequence(evidence)
    verdict = classify(evidence)
    ending: Ending = "finished" if evidence.returncode == 0 else verdict.ending
    nodes.tell("ended", ending=ending, reason=verdict.reason, is_cause=is_cause)
    outcome = _awaited(plan, attempt, nodes)
    if outcome is None:
        outcome = Outcome(ending=ending, reason=verdict.reason, run_dir=plan.run_dir)
    hide_secrets(attempt)
    remove_swap_folder(plan)
    told = outcome.ending if not outcome.reason else f"{outcome.ending}: {outcome.reason}"
    say(f"node {plan.experiment.launcher.node_rank}: {told}")
    return outcome


def _awaited(plan: Plan, attempt: Attempt, nodes: Nodes) -> Outcome | None:
    deadline, pace = time.monotonic() + OUTCOME_SECONDS, pace_of(plan.launch.nodes)
    while not attempt.result.exists() and time.monotonic() < deadline:
        nodes.tell()
        time.sleep(pace.look)
    return read_outcome(folder_of(plan)) if attempt.result.exists() else None
