"""Puts the Slurm job of a run that was saved before its time limit back into the queue."""

import os
import subprocess

from zpipe.plans.plan import Plan
from zpipe.runfolder.outcome import Outcome
from zpipe.terminal.console import say

BEFORE_THE_LIMIT = "SIGUSR1"
"""What `--signal` of the job asks for; scancel sends SIGTERM."""


def requeue_if_preempted(plan: Plan, outcome: Outcome) -> None:
    job = os.environ.get("SLURM_JOB_ID")
    asked = outcome.ending == "preempted" and outcome.reason.startswith(BEFORE_THE_LIMIT)
    if job is None or not asked or not plan.experiment.launcher.slurm.requeue:
        return
    say(f"requeueing Slurm job {job}, which goes on from its checkpoint")
    done = subprocess.run(
        ["scontrol", "requeue", job], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode != 0:
        say(f"Slurm does not requeue it: {done.stderr.strip()}")
