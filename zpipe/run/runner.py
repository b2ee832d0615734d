"""One run from its experiment to its outcome: compile, check the machine, train, record, explain."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zpipe.compile.compiler import compile_plan
from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence
from zpipe.diagnose.postmortem import PostMortem, write_postmortem
from zpipe.launchers.logs import hide_secrets
from zpipe.machine.hardware import detect
from zpipe.machine.probes import missing_requirements, unwritable
from zpipe.plan.plan import Plan, claim, write_plan
from zpipe.plan.provenance import Provenance
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.record.recorder_thread import RecorderThread
from zpipe.record.store import check_store, tracking_uri
from zpipe.runfolder.disk_reserve import give_up
from zpipe.runfolder.outcome import POSTMORTEM, Outcome, write_outcome
from zpipe.schema.experiment import Experiment
from zpipe.supervise.supervisor import make_ready, supervise
from zpipe.terminal.live import Progress
from zpipe.terminal.summary import print_postmortem, print_problems, print_summary, tolerant

RECORD_PATIENCE_SECONDS = 60.0
"""How long the end of a run waits for a slow tracking server."""


def run_experiment(
    experiment: Experiment,
    run_dir: Path,
    command: list[str],
    parent_run_id: str | None = None,
    provenance: Provenance | None = None,
) -> Outcome:
    """Runs it and says how it ended, on the terminal, in result.json and in MLflow."""
    try:
        plan = prepare(experiment, run_dir, command, provenance)
        _write_first_files(plan)
    except Refusal as refusal:
        print_problems(refusal.problems)
        return _refused(run_dir, refusal.problems)
    missing = missing_requirements(plan)
    if missing:
        print_problems(missing, title="This machine lacks what the plan needs")
        return _lacking(plan, missing)
    return _train_and_record(plan, experiment, parent_run_id)


def prepare(
    experiment: Experiment, run_dir: Path, command: list[str], provenance: Provenance | None = None
) -> Plan:
    """The plan, with everything checked that can be refused before a run is started. Writes nothing."""
    claim(run_dir)
    plan = compile_plan(experiment, run_dir, command, detect(), provenance)
    refuse_if_any(unwritable(run_dir))
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
    tidy(plan)
    outcome, postmortem = conclude(plan, evidence)
    if recorder is not None:
        status = None if outcome.ending == "refused" else outcome.mlflow_status
        record = recorder.finish(status, RECORD_PATIENCE_SECONDS, files=(POSTMORTEM,), tags=outcome.tags)
        error = None if record.ok else record.error
        outcome = outcome.model_copy(update={"mlflow_run_id": record.run_id, "record_error": error})
        _write(outcome)
    if outcome.ending == "refused":
        print_problems([Problem(**problem) for problem in evidence.heard.refused])
        return outcome
    with tolerant(sys.stdout):
        print_summary(plan, progress, outcome)
        if postmortem is not None:
            print_postmortem(postmortem.path, [each.overrides for each in postmortem.suggestions])
    return outcome


def tidy(plan: Plan) -> None:
    """What a run that has ended must not leave behind: secrets in its logs, and its swap files."""
    hide_secrets(plan.folder)
    if plan.swap_dir is not None:
        shutil.rmtree(plan.swap_dir, ignore_errors=True)


def conclude(plan: Plan, evidence: Evidence) -> tuple[Outcome, PostMortem | None]:
    """From the evidence to result.json and, where there is something to explain, postmortem.md."""
    verdict = classify(evidence)
    outcome = Outcome(
        ending=verdict.ending,
        reason=verdict.reason,
        failed_rank=verdict.rank,
        run_dir=plan.run_dir,
        summary=evidence.heard.summary,
    )
    _write(outcome)
    return outcome, write_postmortem(plan, outcome, evidence, detect())


def _refused(run_dir: Path, problems: Sequence[Problem]) -> Outcome:
    outcome = Outcome(ending="refused", reason=_reasons(problems), run_dir=str(run_dir))
    _write(outcome)
    return outcome


def _lacking(plan: Plan, problems: Sequence[Problem]) -> Outcome:
    outcome = Outcome(ending="environment", reason=_reasons(problems), run_dir=plan.run_dir)
    _write(outcome)
    give_up(plan.folder)
    write_postmortem(plan, outcome, Evidence(), detect(), problems)
    return outcome


def _reasons(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{problem.key}: {problem.reason}" for problem in problems)


def _write_first_files(plan: Plan) -> None:
    """Raises Refusal where the run folder does not take them."""
    try:
        write_plan(plan)
        make_ready(plan)
    except OSError as error:
        reason = f"the run folder cannot be written: {error.strerror}"
        problem = Problem("hydra.run.dir", plan.run_dir, reason, "a folder on a disk with room")
        raise Refusal([problem]) from error


def _write(outcome: Outcome) -> None:
    """The exit code and the terminal say the same where the disk has no room for result.json."""
    with suppress(OSError):
        write_outcome(outcome)
