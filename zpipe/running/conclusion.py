"""What is left behind when an attempt ends: result.json, the post-mortem, and a tidy folder."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence
from zpipe.diagnose.postmortem import PostMortem, write_postmortem
from zpipe.launchers.logs import hide_secrets
from zpipe.machine.hardware import Hardware, detect
from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.record.follower import RecordResult
from zpipe.runfolder.figures import figures_so_far
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.latest_links import link_latest
from zpipe.runfolder.outcome import Outcome, write_outcome
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.swap_folder import remove_swap_folder
from zpipe.terminal.console import print_problems


def conclude(
    plan: Plan, evidence: Evidence, hardware: Hardware | None = None
) -> tuple[Outcome, PostMortem | None]:
    """From the evidence to result.json, written first, and for a run that did not finish postmortem.md."""
    verdict = classify(evidence)
    outcome = Outcome(
        ending=verdict.ending,
        reason=verdict.reason,
        failed_rank=verdict.rank,
        run_dir=plan.run_dir,
        attempts=folder_of(plan).attempt.number,
        summary=evidence.progress.summary or figures_so_far(evidence.progress.values, plan.memory),
    )
    save_outcome(outcome)
    clean_up(plan)
    postmortem = write_postmortem(plan, outcome, evidence, hardware or detect())
    link_latest(folder_of(plan).attempt)
    return outcome, postmortem


def refuse(run_dir: Path, problems: Sequence[Problem]) -> Outcome:
    """Prints the problems of a run that does not start. Writes nothing: the folder may be of another run."""
    print_problems(problems)
    attempts = RunFolder(run_dir).attempt.number
    outcome = Outcome(ending="refused", reason=reasons(problems), run_dir=str(run_dir), attempts=attempts)
    return outcome.with_problems(problems)


def clean_up(plan: Plan) -> None:
    """Removes the secrets in the logs of a run that has ended, its launch files and its swap files."""
    attempt = folder_of(plan).attempt
    hide_secrets(attempt)
    for file in attempt.leftovers():
        with suppress(OSError):
            file.unlink(missing_ok=True)
    remove_swap_folder(plan)


def reasons(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{problem.key}: {problem.reason}" for problem in problems)


def save_outcome(outcome: Outcome) -> None:
    """The exit code and the terminal report the same if the disk has no room for result.json."""
    with suppress(OSError):
        write_outcome(outcome)
        link_latest(RunFolder(Path(outcome.run_dir)).attempt)


def save_record(folder: RunFolder, outcome: Outcome, record: RecordResult) -> Outcome:
    """Adds to the outcome in this folder what became of the run in MLflow, where that is news."""
    if record.ok and outcome.record_error is None and outcome.mlflow_run_id == record.run_id:
        return outcome
    update = {
        "run_dir": str(folder.path),
        "mlflow_run_id": record.run_id,
        "record_error": None if record.ok else record.error,
        "record_note": record.note,
    }
    outcome = outcome.model_copy(update=update)
    save_outcome(outcome)
    return outcome
