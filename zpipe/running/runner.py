"""One run from its plan to its outcome: check the machine, train, record, explain."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from zpipe.checkpoints.home import checkpoint_home
from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence
from zpipe.diagnose.postmortem import write_postmortem
from zpipe.diagnose.root_cause import is_consequence
from zpipe.machine.disk import unwritable
from zpipe.machine.hardware import Hardware
from zpipe.machine.probes import missing_requirements
from zpipe.machine.ssh import missing_tools
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.record.recorder_thread import RecorderThread
from zpipe.record.state import require_place
from zpipe.record.store import tracking_problems, tracking_uri
from zpipe.runfolder import disk_reserve
from zpipe.runfolder.attempt_start import write_start
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.latest_links import link_latest
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import folder_of, write_plan
from zpipe.runfolder.progress import RunProgress
from zpipe.running.choose import checkpoint_for, choose, named_problems
from zpipe.running.conclusion import clean_up, conclude, reasons, refuse, save_outcome, save_record
from zpipe.running.finished import finished_before
from zpipe.running.leader import gather, nodes_of
from zpipe.running.recover import conclude_if_abandoned
from zpipe.running.start import Start, for_attempt, start_of, wait_for_workers
from zpipe.supervise.hosts import Hosts, hosts_of
from zpipe.supervise.nodes import Nodes
from zpipe.supervise.stops import Caught, in_batch_job, signals_noted
from zpipe.supervise.supervisor import make_ready, supervise
from zpipe.terminal.console import print_problems, say, tolerant
from zpipe.terminal.live import LiveDisplay
from zpipe.terminal.summary import print_postmortem, print_summary, where_it_goes

RECORD_PATIENCE_SECONDS = 60.0
"""How long the end of a run waits for a slow tracking server."""


def start_problems(plan: Plan) -> list[Problem]:
    """Reasons why this plan cannot be started here, found without writing anything."""
    return [
        *named_problems(plan),
        *unwritable(Path(plan.run_dir)),
        *_unusable_home(plan),
        *tracking_problems(plan.experiment.tracking),
    ]


def _unusable_home(plan: Plan) -> list[Problem]:
    """Why checkpoints cannot be written to a folder that is not in that of the run."""
    home = checkpoint_home(plan)
    if home == Path(plan.run_dir):
        return []
    key, fix = "checkpoint.node_local_path", "checkpoint.node_local_path=/path/on/the/local/disk"
    return [problem._replace(key=key, fix=fix) for problem in unwritable(home)]


def run_plan(plan: Plan, hardware: Hardware, parent_run_id: str | None = None) -> Outcome:
    """Runs a checked plan and reports how it ended: on the terminal, in result.json and in MLflow.

    A signal ends the preparation at once and the workers in order; what follows them it only hurries.
    """
    with signals_noted() as caught:
        try:
            with signals_noted(interrupt_at=1):
                start = _start(plan)
                if start.finished is not None:
                    return finished_before(plan, start.finished)
                attempt = _begin(plan, start)
        except Refusal as refusal:
            return refuse(Path(plan.run_dir), refusal.problems)
        except KeyboardInterrupt:
            return _stopped_before_it_began(plan, caught)
        return _run_attempt(plan, start, attempt, hardware, parent_run_id, caught)


def _run_attempt(
    plan: Plan, start: Start, attempt: Attempt, hardware: Hardware, parent_run_id: str | None, caught: Caught
) -> Outcome:
    """Whatever becomes of the attempt, the other nodes are told."""
    nodes = nodes_of(plan)
    with hosts_of(plan) as hosts:
        outcome = _attempted(plan, start, attempt, hardware, parent_run_id, caught, nodes or hosts)
    if nodes is not None and not nodes.has_ended:
        nodes.tell("ended", ending=outcome.ending, reason=outcome.reason, is_cause=True)
    return outcome


def _attempted(
    plan: Plan,
    start: Start,
    attempt: Attempt,
    hardware: Hardware,
    parent_run_id: str | None,
    caught: Caught,
    others: Nodes | Hosts | None,
) -> Outcome:
    try:
        with signals_noted(interrupt_at=1):
            with others.preparing() if isinstance(others, Nodes) else nullcontext():
                plan = _prepare(plan, start, attempt)
                print_warnings(plan)
                missing = missing_tools() if isinstance(others, Hosts) else missing_requirements(plan, say)
            if not missing:
                _gather(plan, others)
    except Refusal as refusal:
        outcome = refuse(Path(plan.run_dir), refusal.problems)
        disk_reserve.release(attempt)
        save_outcome(outcome)
        return outcome
    except KeyboardInterrupt:
        return _stopped_early(plan, hardware, caught)
    if missing:
        return _lacking(plan, missing, hardware)
    return _train_and_record(plan, hardware, parent_run_id, caught, others)


def _gather(plan: Plan, others: Nodes | Hosts | None) -> None:
    """Returns when all machines of the run are ready. Raises Refusal that names each that is not."""
    if isinstance(others, Hosts):
        say(f"checking {', '.join(host.name for host in plan.launch.hosts)}")
        others.gather()
    elif others is not None:
        gather(plan, others)


def print_warnings(plan: Plan) -> None:
    """Those of the plan, on stderr."""
    for notice in plan.notices:
        if notice.level == "warning":
            say(f"warning: {notice.key}: {notice.text}")


def _stopped_before_it_began(plan: Plan, caught: Caught) -> Outcome:
    """A signal came before the attempt had a folder: those of earlier attempts stay as they are."""
    verdict = classify(_stopped_by(caught))
    say(f"{verdict.ending}: {verdict.reason}")
    return Outcome(ending=verdict.ending, reason=verdict.reason, run_dir=plan.run_dir)


def _stopped_by(caught: Caught) -> Evidence:
    number = caught.number or signal.SIGINT
    return Evidence(returncode=1, stopped_by=number, in_batch_job=in_batch_job())


def _stopped_early(plan: Plan, hardware: Hardware, caught: Caught) -> Outcome:
    """A signal came before the workers were started."""
    disk_reserve.release(folder_of(plan).attempt)
    outcome, _ = conclude(plan, _stopped_by(caught), hardware)
    say(f"{outcome.ending}: {outcome.reason}")
    return outcome


def _train_and_record(
    plan: Plan, hardware: Hardware, parent_run_id: str | None, caught: Caught, others: Nodes | Hosts | None
) -> Outcome:
    tracking, recorder = plan.experiment.tracking, None
    if tracking.enabled:
        recorder = RecorderThread(plan, tracking_uri(tracking.uri), parent_run_id)
        recorder.start()
    say(where_it_goes(plan))
    progress = RunProgress()
    with LiveDisplay(plan, progress) as display:
        evidence = supervise(plan, progress, display, caught, others)
    before = caught.count
    outcome, postmortem = conclude(plan, evidence, hardware)
    if isinstance(others, Nodes):
        is_cause = outcome.ending != "finished" and not is_consequence(evidence)
        others.tell("ended", ending=outcome.ending, reason=outcome.reason, is_cause=is_cause)
    if recorder is not None:
        outcome = _finish_record(plan, recorder, outcome, lambda: caught.count - before)
    if progress.refused is not None and outcome.ending == "refused":
        print_problems(progress.refused.listed())
        return outcome.with_problems(progress.refused.listed())
    with tolerant(sys.stdout):
        print_summary(plan, progress, outcome)
        if postmortem is not None:
            print_postmortem(postmortem.path, [each.overrides for each in postmortem.suggestions])
    return outcome


def _finish_record(
    plan: Plan, recorder: RecorderThread, outcome: Outcome, signals: Callable[[], int]
) -> Outcome:
    """Closes the run in MLflow and adds to the outcome what became of it."""
    status = None if outcome.ending == "refused" else outcome.mlflow_status
    files = [attempt.postmortem for attempt in folder_of(plan).attempts]
    record = recorder.finish(status, RECORD_PATIENCE_SECONDS, files, outcome.tags, signals)
    return save_record(folder_of(plan), outcome, record)


def _lacking(plan: Plan, problems: Sequence[Problem], hardware: Hardware) -> Outcome:
    print_problems(problems, title="This machine lacks what the plan needs")
    attempt = folder_of(plan).attempt
    outcome = Outcome(
        ending="environment", reason=reasons(problems), run_dir=plan.run_dir, attempts=attempt.number
    )
    save_outcome(outcome)
    disk_reserve.release(attempt)
    clean_up(plan)
    write_postmortem(plan, outcome, Evidence(), hardware, problems)
    link_latest(folder_of(plan).attempt)
    return outcome


def _start(plan: Plan) -> Start:
    """The attempt to begin, once the one before has an end. Raises Refusal."""
    start = start_of(plan)
    if start.attempt > 1:
        wait_for_workers(Path(plan.run_dir), say)
        conclude_if_abandoned(Path(plan.run_dir))
        again = start_of(plan)
        if again.attempt == start.attempt:
            return again
        # Another zpipe has begun this attempt by now: `begin` refuses it.
    return start


def _begin(plan: Plan, start: Start) -> Attempt:
    """Begins an attempt: once it has its folder, no other zpipe begins it. Raises Refusal."""
    if plan.experiment.tracking.enabled:
        require_place(folder_of(plan))
    if start.attempt > 1:
        # Refuses what names and sizes tell before there is an attempt.
        checkpoint_for(plan, lambda _: None, quick=True)
    with _refusing_what_cannot_be_written(plan):
        try:
            return folder_of(plan).begin(start.attempt)
        except FileExistsError:
            reason = "another run has started in this folder"
            raise Refusal([Problem("hydra.run.dir", plan.run_dir, reason, "a new folder")]) from None


def _prepare(plan: Plan, start: Start, attempt: Attempt) -> Plan:
    """Writes what the workers read, and returns the plan with their command. Raises Refusal."""
    with _refusing_what_cannot_be_written(plan):
        plan = for_attempt(plan, attempt)
        if start.attempt == 1:
            write_plan(plan)
        chosen = choose(plan, start, say)
        if start.attempt > 1:
            write_plan(plan)  # not before: a refused attempt leaves the plan of the one before
        make_ready(plan)
        write_start(attempt, chosen)
        return plan


@contextmanager
def _refusing_what_cannot_be_written(plan: Plan) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = error.filename2 or error.filename
        where = "" if named is None else f" ({named})"
        reason = f"the run folder cannot be written: {error.strerror}{where}"
        problem = Problem("hydra.run.dir", plan.run_dir, reason, "a folder on a disk with room")
        raise Refusal([problem]) from error
