"""Puts the Slurm job of a run that was saved before its time limit back into the queue."""

import os
import subprocess

from zpipe.checkpoints.folders import checkpoints_in, step_of
from zpipe.checkpoints.home import checkpoint_home
from zpipe.plans.plan import Plan
from zpipe.runfolder.attempt_start import read_start
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import folder_of
from zpipe.terminal.console import say

BEFORE_THE_LIMIT = "SIGUSR1"
"""What `--signal` of the job asks for; scancel sends SIGTERM."""
OF_ZPIPE = "ZPIPE_JOB"
"""Set by the script of zpipe (zpipe/launchers/job.sh.j2): a job of the user's own is left alone."""


def requeue_if_preempted(plan: Plan, outcome: Outcome) -> None:
    """Only if the next start goes on from a checkpoint of this one: otherwise it would never end."""
    job = _own_job() if os.environ.get(OF_ZPIPE) else None
    asked = outcome.ending == "preempted" and outcome.reason.startswith(BEFORE_THE_LIMIT)
    if job is None or not asked or not plan.experiment.launcher.slurm.requeue or not _has_saved(plan):
        return
    say(f"requeueing Slurm job {job}, which goes on from its checkpoint")
    argv = ["scontrol", "requeue", job]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode != 0:
        say(f"Slurm does not requeue it: {done.stderr.strip()}")


def _own_job() -> str | None:
    """One task of a job array has the number of the whole array as SLURM_JOB_ID."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _has_saved(plan: Plan) -> bool:
    folder = folder_of(plan)
    began = read_start(folder.attempt).step
    return any((step_of(each) or 0) > began for each in checkpoints_in(checkpoint_home(plan)))
