"""A run in Slurm's queue: submits its job, shows what it waits for, and ends as the run does."""

import subprocess
import sys
import time
from collections.abc import Iterator

from zpipe.exits import Exit
from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.redact import redact, redact_override
from zpipe.runfolder.outcome import Ending, Outcome, read_outcome
from zpipe.runfolder.plan_file import folder_of, write_launch_files, write_plan
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.running.start import Start
from zpipe.supervise.stops import Stopped
from zpipe.terminal.console import say
from zpipe.terminal.live import LiveDisplay

LOOK_SECONDS = 2.0
SILENT_LOOKS = 60
"""After which a job is given up that Slurm does not know."""
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


def submit(plan: Plan, start: Start) -> Outcome:
    """Raises Refusal with Slurm's words if it does not take the job."""
    refuse_if_any(_secrets(plan))
    if start.attempt == 1:
        write_plan(plan)
    else:  # the plan of the last attempt stays until the job begins the next
        write_launch_files(without_secrets(plan))
    job = _submitted(plan)
    say(f"submitted as Slurm job {job}; run folder {plan.run_dir}")
    if not plan.experiment.launcher.wait:
        return Outcome(ending="submitted", reason=f"Slurm job {job}", run_dir=plan.run_dir)
    try:
        state = _followed(plan, job)
    except KeyboardInterrupt as stop:
        return _left(plan, job, stop)
    return _outcome(plan, job, state, start.attempt)


def _secrets(plan: Plan) -> Iterator[Problem]:
    """The script of the job has the overrides, and everybody who can read the run folder can read it."""
    reason = "the script of the job would contain this secret"
    allowed = "the name of a variable in the environment, which Slurm passes on"
    found = [override for override in plan.command if redact_override(override) != override]
    for key in (override.partition("=")[0] for override in found):
        yield Problem(key, "***", reason, allowed, f"'{key}=${{oc.env:{key.rpartition('.')[2]}}}'")
    if not found and any(redact(text) != text for text in plan.launch.files.values()):
        yield Problem("launcher.slurm.setup", "***", reason, allowed)


def _submitted(plan: Plan) -> str:
    done = _slurm(*plan.launch.argv)
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]
    lines = (line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines())
    words = " ".join(filter(str.strip, lines))
    settings = plan.experiment.launcher.slurm
    allowed = ", ".join(_slurm("sinfo", "--noheader", "--format=%R").stdout.split())
    key = "launcher.slurm.partition" if "partition" in words.lower() else "launcher=slurm"
    value = settings.partition or "" if key.endswith("partition") else ""
    raise Refusal([Problem(key, value, f"Slurm says: {words}", f"partitions {allowed}" if allowed else "")])


def _slurm(*argv: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command of Slurm. Raises Refusal if it is not installed."""
    try:
        return subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        reason, allowed = f"{argv[0]} is not installed here", "a machine that submits to Slurm"
        raise Refusal([Problem("launcher.type", "slurm", reason, allowed)]) from None


def _followed(plan: Plan, job: str) -> str:
    """Shows the state of the job, and of the run once it has begun; returns the last state."""
    progress, events = RunProgress(), RunEvents(folder_of(plan))
    shown, state, silent = "", "", 0
    with LiveDisplay(plan, progress) as display:
        while True:
            state, reason = _state_of(job)
            silent = silent + 1 if state == UNKNOWN else 0
            if state == UNKNOWN and silent < SILENT_LOOKS:  # slurmctld may be restarting
                time.sleep(LOOK_SECONDS)
                continue
            text = f"job {job}: {state.lower()}" + (f", {reason}" if state == "PENDING" and reason else "")
            if text != shown:
                say(text)
                shown = text
            for event in events.read_new():
                progress.update(event)
                display.update(event)
            if state not in ACTIVE:
                return state
            time.sleep(LOOK_SECONDS)


def _state_of(job: str) -> tuple[str, str]:
    """State and reason; Slurm forgets a job some minutes after its end."""
    shown = _slurm("scontrol", "show", "job", "--oneliner", job).stdout
    fields = dict(field.partition("=")[::2] for field in shown.split() if "=" in field)
    return fields.get("JobState", UNKNOWN), fields.get("Reason", "")


def _outcome(plan: Plan, job: str, state: str, attempt: int) -> Outcome:
    """The outcome of the run, if the job came as far as this attempt."""
    folder = folder_of(plan)
    outcome = read_outcome(folder) if folder.attempt.number >= attempt else None
    if outcome is not None:
        say(f"{outcome.ending}{': ' if outcome.reason else ''}{outcome.reason}")
        return outcome
    output = folder.path / f"slurm-{job}.out"
    reason = f"Slurm ended job {job}: {state}; its output is in {output}"
    say(reason)
    return Outcome(ending=ENDINGS.get(state, "failed"), reason=reason, run_dir=plan.run_dir)


def _left(plan: Plan, job: str, stop: KeyboardInterrupt) -> Outcome:
    """Ctrl-C leaves the job to Slurm, unless the user wants to cancel it."""
    if sys.stdin.isatty() and _agrees(f"Cancel job {job} too? [y/N] "):
        _slurm("scancel", job)
        return Outcome(ending="interrupted", reason=f"job {job} was cancelled", run_dir=plan.run_dir)
    say(f"job {job} goes on; scancel {job} cancels it")
    is_terminated = isinstance(stop, Stopped) and stop.exit_code == Exit.TERMINATED
    ending: Ending = "terminated" if is_terminated else "interrupted"
    return Outcome(ending=ending, reason=f"job {job} goes on without zpipe", run_dir=plan.run_dir)


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False
