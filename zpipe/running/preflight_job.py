"""`zpipe doctor --launch launcher=slurm`: a short job that checks its nodes, and what it printed."""

import math
from pathlib import Path

from zpipe.exits import Exit
from zpipe.launchers import launcher_of
from zpipe.launchers.base import Job
from zpipe.machine.hardware import visible_gpus
from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.foreign_files import read_text
from zpipe.runfolder.plan_file import write_launch_files
from zpipe.running import slurm_queue as queue
from zpipe.running.preflight import meeting_place
from zpipe.running.submit import look_at
from zpipe.running.waiting import follow
from zpipe.schema.launcher import Launcher
from zpipe.supervise.stops import signals_noted
from zpipe.terminal.console import say, show


def check_in_a_job(plan: Plan) -> int:
    """The exit code of the check. Raises Refusal, with Slurm's words if it takes no job."""
    if plan.launch.launcher != "slurm":
        reason = "zpipe doctor submits jobs to Slurm alone"
        raise Refusal([Problem("launcher.type", plan.launch.launcher, reason, fix="leave --launch out")])
    with meeting_place(Path(plan.run_dir)) as attempt:
        here = _in_a_job(plan, attempt)
        refuse_if_any(queue.secrets_in(here))
        write_launch_files(without_secrets(here))
        job = queue.submitted(here.launch.argv, plan.experiment.launcher.slurm)
        say(f"submitted as Slurm job {job}")
        try:
            state = follow(here, f"job {job}", lambda: look_at(job)).name
        except BaseException:
            with signals_noted():
                queue.cancel(job)
            raise
        code = queue.exit_code_of(job)
        show(_output(attempt, job), end="")
        if state == "COMPLETED" or (state == "FAILED" and code):
            return Exit.FINISHED if code is None else code
        say(f"Slurm ended job {job}: {state}")
        return Exit.ENVIRONMENT


def _in_a_job(plan: Plan, attempt: Attempt) -> Plan:
    """The plan whose command submits the check; the nodes meet in the folder of the attempt."""
    launch, settings = plan.launch, _short(plan.experiment.launcher)
    command = ("doctor", "--launch", *plan.command)
    folder = RunFolder(attempt.path)
    job = Job(folder, attempt, settings, launch.device, launch.nproc_per_node, command, visible_gpus())
    rendered = launcher_of(launch.launcher).render(job)
    update = {"argv": rendered.argv, "files": dict(rendered.files)}
    return plan.model_copy(update={"run_dir": str(attempt.path), "launch": launch.model_copy(update=update)})


def _short(settings: Launcher) -> Launcher:
    """Waits in the queue as briefly as it can, and is not started again."""
    minutes = 5 + math.ceil(3 * settings.node_timeout_s / 60)
    update = {"time": str(minutes), "requeue": False, "signal_s": 0}
    return settings.model_copy(update={"slurm": settings.slurm.model_copy(update=update)})


def _output(attempt: Attempt, job: str) -> str:
    try:
        return read_text(attempt.path / f"slurm-{job}.out")
    except (OSError, UnicodeDecodeError):
        return ""
