"""A run as a TrainJob of Kubeflow Trainer: creates it, shows its state, and ends as the run does."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from zpipe.launchers.kubeflow import folder_in_pods, job_name
from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.redact import redact
from zpipe.runfolder.outcome import Ending, Outcome
from zpipe.runfolder.plan_file import folder_of, write_launch_files, write_plan
from zpipe.running.start import Start
from zpipe.running.waiting import JobState, follow, left_to_the_queue, outcome_in
from zpipe.terminal.console import say

UNKNOWN, DELETED = "unknown", "deleted"
ENDINGS: Mapping[str, Ending] = {"complete": "finished", DELETED: "terminated"}
"""What the end of a TrainJob means for a run that did not tell its own ending here."""
REASONS: Mapping[str, Ending] = {
    "DeadlineExceeded": "preempted",
    "TrainingRuntimeNotSupported": "environment",
}
"""Reasons of a failed one that tell more (pkg/apis/trainer/v1alpha1/trainjob_types.go)."""
_SECONDS = 60
"""After which a call of kubectl is given up."""


def submit_trainjob(plan: Plan, start: Start) -> Outcome:
    """Raises Refusal with the words of Kubernetes if it does not take the job; then nothing was created."""
    refuse_if_any(_secrets(plan))
    settings, folder = plan.experiment.launcher, folder_of(plan)
    job = job_name(settings.kubeflow, folder)
    if start.attempt == 1:
        write_plan(plan)
    else:  # the plan of the last attempt stays until the job begins the next
        write_launch_files(without_secrets(plan))
    _created(plan, "--dry-run=server")
    _created(plan)
    say(f"created TrainJob {job}; its run folder is {folder_in_pods(settings, folder)}")
    if not settings.wait:
        return Outcome(ending="submitted", reason=f"TrainJob {job}", run_dir=plan.run_dir)
    try:
        state = follow(plan, f"TrainJob {job}", lambda: _look(plan, job))
    except KeyboardInterrupt as stop:
        say(f"TrainJob {job} goes on; {' '.join(_kubectl(plan, 'delete', 'trainjob', job))} ends it")
        return left_to_the_queue(plan, f"TrainJob {job}", stop)
    outcome = outcome_in(folder, start.attempt) or _outcome(plan, job, state)
    say(f"{outcome.ending}{': ' if outcome.reason else ''}{outcome.reason}")
    return outcome


def _secrets(plan: Plan) -> Iterator[Problem]:
    """What looks like a secret inside another value; the settings themselves were looked at before."""
    if any(redact(text) != text for text in plan.launch.files.values()):
        reason = "the ConfigMap of the job would contain what looks like a secret"
        yield Problem("launcher.type", "kubeflow", reason, "a key of a Secret: launcher.kubeflow.env_from")


def _created(plan: Plan, *more: str) -> None:
    done = _run([*plan.launch.argv, *more])
    if done.returncode == 0:
        return
    words = " ".join(done.stderr.split())
    fix = ""
    if "AlreadyExists" in words or "already exists" in words:
        file = plan.launch.argv[-1]
        fix = f"launcher.kubeflow.name=OTHER, or: kubectl delete --ignore-not-found -f {file}"
    raise Refusal([Problem("launcher=kubeflow", "", f"Kubernetes says: {words}", fix=fix)])


def _look(plan: Plan, job: str) -> JobState:
    done = _run(_kubectl(plan, "get", "trainjob", job, "--output=json"))
    if done.returncode != 0:
        is_gone = "NotFound" in done.stderr
        return JobState(DELETED) if is_gone else JobState(UNKNOWN, done.stderr.strip(), is_known=False)
    try:
        return state_of(json.loads(done.stdout).get("status") or {})
    except (ValueError, AttributeError, TypeError):
        return JobState(UNKNOWN, "kubectl shows no TrainJob", is_known=False)


def state_of(status: Mapping[str, Any]) -> JobState:
    """The state in the status of a TrainJob: its conditions, and the pods while it has not ended."""
    conditions = {each["type"]: each for each in status.get("conditions", ()) if each["status"] == "True"}
    for kind in ("Complete", "Failed"):
        if kind in conditions:
            found = conditions[kind]
            told = ": ".join(filter(None, (found.get("reason", ""), found.get("message", ""))))
            return JobState(kind.lower(), told)
    if "Suspended" in conditions:
        return JobState("suspended", is_active=True)
    is_running = any(job["ready"] > 0 for job in status.get("jobsStatus", ()))
    return JobState("running" if is_running else "pending", is_active=True)


def _outcome(plan: Plan, job: str, state: JobState) -> Outcome:
    """The state of the job decides: the pods have the run folder, and this machine has not."""
    reason = f"TrainJob {job}: {state.name}" + (f", {state.detail}" if state.detail else "")
    ending = REASONS.get(state.detail.partition(":")[0]) or ENDINGS.get(state.name, "failed")
    told = "" if ending == "finished" else reason
    return Outcome(ending=ending, reason=told, run_dir=plan.run_dir)


def _kubectl(plan: Plan, *arguments: str) -> list[str]:
    namespace = plan.experiment.launcher.kubeflow.namespace
    return ["kubectl", *arguments, *([] if namespace is None else [f"--namespace={namespace}"])]


def _run(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    """Raises Refusal if kubectl is not installed."""
    try:
        return subprocess.run(
            [*argv, f"--request-timeout={_SECONDS}s"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        reason, allowed = "kubectl is not installed here", "a machine with kubectl and access to a cluster"
        raise Refusal([Problem("launcher.type", "kubeflow", reason, allowed)]) from None
