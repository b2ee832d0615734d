"""One run from its experiment to its outcome: compile, check the machine, train, record, summarise."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

from zpipe.compile.compiler import compile_plan
from zpipe.facts.hardware import detect
from zpipe.launchers.logs import hide_secrets, last_lines
from zpipe.outcome import MLFLOW_STATUS, Ending, Outcome, write_outcome
from zpipe.plan import Plan, claim, write_plan
from zpipe.preflight import lacks
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.progress import Progress
from zpipe.record.recorder import RecorderThread
from zpipe.record.store import check_store, tracking_uri
from zpipe.report import print_problems, print_summary
from zpipe.schema.experiment import Experiment
from zpipe.supervise import Evidence, supervise

RECORD_PATIENCE_SECONDS = 60.0
"""How long the end of a run waits for a slow tracking server."""


def run_experiment(
    experiment: Experiment, run_dir: Path, command: list[str], parent_run_id: str | None = None
) -> Outcome:
    """Runs it and says how it ended, on the terminal, in result.json and in MLflow."""
    try:
        plan = prepare(experiment, run_dir, command)
        write_plan(plan)
    except Refusal as refusal:
        print_problems(refusal.problems)
        return _not_started("refused", run_dir, refusal.problems)
    missing = lacks(plan)
    if missing:
        print_problems(missing, title="This machine lacks what the plan needs")
        return _not_started("environment", run_dir, missing)
    outcome = _train_and_record(plan, experiment, parent_run_id)
    write_outcome(outcome)
    return outcome


def prepare(experiment: Experiment, run_dir: Path, command: list[str]) -> Plan:
    """The plan, with everything checked that can be refused before a run is started. Writes nothing."""
    claim(run_dir)
    plan = compile_plan(experiment, run_dir, command, detect())
    if experiment.tracking.enabled:
        refuse_if_any(check_store(tracking_uri(experiment.tracking.uri)))
    return plan


def _train_and_record(plan: Plan, experiment: Experiment, parent_run_id: str | None) -> Outcome:
    recorder = None
    if experiment.tracking.enabled:
        recorder = RecorderThread(plan, tracking_uri(experiment.tracking.uri), parent_run_id)
        recorder.start()
    with Progress(plan) as progress:
        evidence = supervise(plan, progress)
    hide_secrets(plan.folder)
    if plan.swap_dir is not None:
        shutil.rmtree(plan.swap_dir, ignore_errors=True)
    ending, reason = _judge(evidence, plan)
    record = None
    if recorder is not None:
        record = recorder.finish(
            None if ending == "refused" else MLFLOW_STATUS[ending], RECORD_PATIENCE_SECONDS
        )
    outcome = Outcome(
        ending=ending,
        reason=reason,
        run_dir=plan.run_dir,
        summary=evidence.summary,
        mlflow_run_id=record.run_id if record else None,
        record_error=record.error if record and not record.ok else None,
    )
    if ending == "refused":
        print_problems([Problem(**problem) for problem in evidence.refused])
    else:
        print_summary(plan, progress, outcome)
    return outcome


def _judge(evidence: Evidence, plan: Plan) -> tuple[Ending, str]:
    """From the evidence, how the workers ended and why."""
    if evidence.refused:
        return "refused", "; ".join(f"{problem['key']}: {problem['reason']}" for problem in evidence.refused)
    if evidence.stopped_by == signal.SIGINT:
        return "interrupted", "Ctrl-C"
    if evidence.stopped_by == signal.SIGTERM:
        return "terminated", "SIGTERM"
    if evidence.returncode == 0 and evidence.done:
        return "finished", ""
    if evidence.failed is not None:
        return _failure(evidence.failed)
    for file in sorted(plan.folder.glob("rank*.error.json")):
        ending, reason = _failure(json.loads(file.read_text()))
        return ending, f"{file.name.partition('.')[0]}: {reason}"
    tail = last_lines(plan.folder, 1)
    return "failed", tail[0] if tail else f"the workers ended with {evidence.returncode}"


def _failure(error: dict[str, Any]) -> tuple[Ending, str]:
    """From an exception of a worker; an operator that could not be built is a lack of this machine."""
    ending: Ending = "environment" if error["type"] == "OperatorBuildError" else "failed"
    return ending, f"{error['type']}: {error['message']}"


def _not_started(ending: Ending, run_dir: Path, problems: list[Problem] | tuple[Problem, ...]) -> Outcome:
    reason = "; ".join(f"{problem.key}: {problem.reason}" for problem in problems)
    outcome = Outcome(ending=ending, reason=reason, run_dir=str(run_dir))
    write_outcome(outcome)
    return outcome
