"""A run in Slurm's queue: submits its job, shows what it waits for, and ends as the run does."""

from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import refuse_if_any
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import folder_of, write_launch_files, write_plan
from zpipe.running import slurm_queue as queue
from zpipe.running.start import Start
from zpipe.running.waiting import JobState, follow, left_to_the_queue
from zpipe.terminal.console import say


def submit(plan: Plan, start: Start) -> Outcome:
    """Raises Refusal with Slurm's words if it does not take the job."""
    write_job(plan, start)
    job = queue.submitted(plan.launch.argv, plan.experiment.launcher.slurm)
    say(f"submitted as Slurm job {job}; run folder {plan.run_dir}")
    if not plan.experiment.launcher.wait:
        return Outcome(ending="submitted", reason=f"Slurm job {job}", run_dir=plan.run_dir)
    try:
        state = follow(plan, f"job {job}", lambda: look_at(job)).name
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


def look_at(job: str) -> JobState:
    """What Slurm says of it."""
    state, reason = queue.state_of(job)
    detail = reason if state == "PENDING" else ""
    return JobState(state, detail, is_active=state in queue.ACTIVE, is_known=state != queue.UNKNOWN)


def _left(plan: Plan, job: str, stop: KeyboardInterrupt) -> Outcome:
    if queue.leave_or_cancel(job):
        return Outcome(ending="interrupted", reason=f"job {job} was cancelled", run_dir=plan.run_dir)
    return left_to_the_queue(plan, f"job {job}", stop)
