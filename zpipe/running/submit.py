"""A run in Slurm's queue: submits its job, shows what it waits for, and ends as the run does."""

import time

from zpipe.exits import Exit
from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import refuse_if_any
from zpipe.runfolder.outcome import Ending, Outcome
from zpipe.runfolder.plan_file import folder_of, write_launch_files, write_plan
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.running import slurm_queue as queue
from zpipe.running.start import Start
from zpipe.supervise.stops import Stopped
from zpipe.terminal.console import say
from zpipe.terminal.live import LiveDisplay


def submit(plan: Plan, start: Start) -> Outcome:
    """Raises Refusal with Slurm's words if it does not take the job."""
    write_job(plan, start)
    job = queue.submitted(plan.launch.argv, plan.experiment.launcher.slurm)
    say(f"submitted as Slurm job {job}; run folder {plan.run_dir}")
    if not plan.experiment.launcher.wait:
        return Outcome(ending="submitted", reason=f"Slurm job {job}", run_dir=plan.run_dir)
    try:
        state = _followed(plan, job)
    except KeyboardInterrupt as stop:
        return _left(plan, job, stop)
    output = folder_of(plan).path / f"slurm-{job}.out"
    outcome = queue.outcome_of_job(plan, start.attempt, job, state, str(output))
    say(f"{outcome.ending}{': ' if outcome.reason else ''}{outcome.reason}")
    return outcome


def write_job(plan: Plan, start: Start) -> None:
    """Writes the script of the job, and of a new run the plan. Raises Refusal for a secret in the script."""
    refuse_if_any(queue.secrets_in(plan))
    if start.attempt == 1:
        write_plan(plan)
    else:  # the plan of the last attempt stays until the job begins the next
        write_launch_files(without_secrets(plan))


def _followed(plan: Plan, job: str) -> str:
    """Shows the state of the job, and of the run once it has begun; returns the last state."""
    progress, events = RunProgress(), RunEvents(folder_of(plan))
    shown, state, silent = "", "", 0
    with LiveDisplay(plan, progress) as display:
        while True:
            state, reason = queue.state_of(job)
            silent = silent + 1 if state == queue.UNKNOWN else 0
            if state == queue.UNKNOWN and silent < queue.SILENT_LOOKS:
                time.sleep(queue.LOOK_SECONDS)
                continue
            text = f"job {job}: {state.lower()}" + (f", {reason}" if state == "PENDING" and reason else "")
            if text != shown:
                say(text)
                shown = text
            for event in events.read_new():
                progress.update(event)
                display.update(event)
            if state not in queue.ACTIVE:
                return state
            time.sleep(queue.LOOK_SECONDS)


def _left(plan: Plan, job: str, stop: KeyboardInterrupt) -> Outcome:
    if queue.leave_or_cancel(job):
        return Outcome(ending="interrupted", reason=f"job {job} was cancelled", run_dir=plan.run_dir)
    is_terminated = isinstance(stop, Stopped) and stop.exit_code == Exit.TERMINATED
    ending: Ending = "terminated" if is_terminated else "interrupted"
    return Outcome(ending=ending, reason=f"job {job} goes on without zpipe", run_dir=plan.run_dir)
