"""Slurm's queue: jobs are submitted, looked at and cancelled with Slurm's own commands."""

import subprocess
import sys
from collections.abc import Iterable, Iterator

from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.redact import redact, redact_override
from zpipe.runfolder.outcome import Ending, Outcome
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.waiting import outcome_in
from zpipe.schema.slurm import Slurm
from zpipe.terminal.console import say

UNKNOWN = "UNKNOWN"
# fmt: off
ACTIVE = (
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "STOPPED",
)
# fmt: on
ENDINGS: dict[str, Ending] = {
    "OUT_OF_MEMORY": "host_out_of_memory",
    "NODE_FAIL": "rank_died",
    "BOOT_FAIL": "rank_died",
    "PREEMPTED": "preempted",
    "TIMEOUT": "preempted",
    "DEADLINE": "preempted",
    "CANCELLED": "terminated",
}
"""What a state of Slurm means for a run that did not tell its own ending."""


def submitted(argv: Iterable[str], settings: Slurm) -> str:
    """The number of the job. Raises Refusal with Slurm's words if it does not take it."""
    done = _slurm(*argv)
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]
    lines = (line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines())
    words = " ".join(filter(str.strip, lines))
    reason = f"Slurm says: {words}"
    if "partition" not in words.lower():
        raise Refusal([Problem("launcher=slurm", "", reason)])
    allowed = ", ".join(_slurm("sinfo", "--noheader", "--format=%R").stdout.split())
    raise Refusal(
        [Problem("launcher.slurm.partition", settings.partition or "", reason, f"partitions {allowed}")]
    )


def state_of(job: str) -> tuple[str, str]:
    """State and reason; Slurm forgets a job some minutes after its end."""
    fields = _fields(job)
    return fields.get("JobState", UNKNOWN), fields.get("Reason", "")


def exit_code_of(job: str) -> int | None:
    """Of the script of a job that has ended; None if a signal ended it, or Slurm has forgotten it."""
    code, _, number = _fields(job).get("ExitCode", "").partition(":")
    return int(code) if code.isdigit() and number == "0" else None


def cancel(job: str) -> None:
    _slurm("scancel", job)


def _fields(job: str) -> dict[str, str]:
    shown = _slurm("scontrol", "show", "job", "--oneliner", job).stdout
    return dict(field.partition("=")[::2] for field in shown.split() if "=" in field)


def states_of_tasks(job: str) -> dict[int, tuple[str, str]] | None:
    """State and reason of each task of a job array that Slurm still knows; None if Slurm does not answer."""
    done = _slurm("squeue", "--array", "--noheader", "--states=all", "--format=%K %T %r", f"--jobs={job}")
    if done.returncode != 0 and not _is_forgotten(done):
        return None
    rows = (line.split(maxsplit=2) for line in done.stdout.splitlines())
    return {int(row[0]): (row[1], row[2].strip()) for row in rows if len(row) == 3 and row[0].isdigit()}


def is_queued(job: str) -> bool:
    """Whether a job, or a task of a job array, waits or runs. Raises Refusal if Slurm does not answer."""
    done = _slurm("squeue", "--noheader", f"--jobs={job}")
    if done.returncode != 0 and not _is_forgotten(done):
        reason = f"Slurm does not say whether job {job} still runs: {done.stderr.strip()}"
        raise Refusal([Problem("launcher.type", "slurm", reason, fix="try again when Slurm answers")])
    return bool(done.stdout.strip())


def _is_forgotten(done: "subprocess.CompletedProcess[str]") -> bool:
    """Slurm forgets a job some minutes after its end."""
    return "Invalid job id" in done.stderr


def secrets_in(plan: Plan) -> Iterator[Problem]:
    """The script of a job has the overrides, and everybody who can read the run folder can read it."""
    reason = "the script of the job would contain this secret"
    allowed = "the name of a variable in the environment, which Slurm passes on"
    found = [override for override in plan.command if redact_override(override) != override]
    for key in (override.partition("=")[0] for override in found):
        yield Problem(key, "***", reason, allowed, f"'{key}=${{oc.env:{key.rpartition('.')[2]}}}'")
    if not found and any(redact(text) != text for text in plan.launch.files.values()):
        yield Problem("launcher.slurm.setup", "***", reason, allowed)


def outcome_of_job(plan: Plan, attempt: int, job: str, state: str, output: str) -> Outcome:
    """The outcome of the run, if the job came as far as this attempt; otherwise what Slurm's state tells."""
    outcome = outcome_in(folder_of(plan), attempt)
    if outcome is not None:
        return outcome
    reason = f"Slurm ended job {job}: {state}; its output is in {output}"
    return Outcome(ending=ENDINGS.get(state, "failed"), reason=reason, run_dir=plan.run_dir)


def leave_or_cancel(job: str) -> bool:
    """Ctrl-C leaves the job to Slurm, unless the user cancels it here. Returns whether it was cancelled."""
    if sys.stdin.isatty() and _agrees(f"Cancel job {job} too? [y/N] "):
        cancel(job)
        return True
    say(f"job {job} goes on; scancel {job} cancels it")
    return False


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _slurm(*argv: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command of Slurm. Raises Refusal if it is not installed."""
    try:
        return subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        reason, allowed = f"{argv[0]} is not installed here", "a machine that submits to Slurm"
        raise Refusal([Problem("launcher.type", "slurm", reason, allowed)]) from None
