"""Whether a run starts here, goes on here, or cannot: decided from its folder, before anything is written."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.home import checkpoint_home
from zpipe.launchers import launcher_of
from zpipe.launchers.base import WORKER, Job
from zpipe.machine.hardware import visible_gpus
from zpipe.plans.changes import is_longer, other_changes, result_changes
from zpipe.plans.plan import Plan
from zpipe.plans.same_inputs import changed_inputs
from zpipe.problems import Problem, Refusal, either, refuse_if_any
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.outcome import Outcome, read_outcome
from zpipe.runfolder.plan_file import folder_of, is_only_planned, read_plan
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.schema.resume import NEVER

WAIT_FOR_WORKERS_SECONDS = 60.0


@dataclass(frozen=True)
class Start:
    """The attempt to begin. `changes` are the settings that differ from the attempt before."""

    attempt: int = 1
    changes: tuple[str, ...] = ()
    finished: Outcome | None = None
    """The outcome of a run that has nothing left to do."""


def start_of(plan: Plan) -> Start:
    """Raises Refusal if the folder holds something else, or a run that must not go on like this."""
    folder = folder_of(plan)
    attempts = folder.attempts
    if not folder.holds_run and _only_begun(folder):
        return Start(attempt=attempts[-1].number + 1)
    if not attempts or not folder.holds_run:
        if not is_only_planned(folder):
            folder.claim()
        return Start()
    if plan.experiment.resume.checkpoint == NEVER:
        refuse_if_any([_occupied(plan)])
    before = read_plan(folder.path)
    trusts = plan.experiment.resume.trust
    refuse_if_any(
        [
            *result_changes(before, plan),
            *_changed_since_trained(before, plan, folder),
            *_saved_elsewhere(before, plan),
            *([] if trusts else _moved(before, plan)),
            *_still_supervised(plan),
        ]
    )
    outcome = read_outcome(folder)
    is_over = outcome is not None and outcome.ending == "finished" and not is_longer(before, plan)
    return Start(
        attempt=attempts[-1].number + 1,
        changes=tuple(other_changes(before, plan)),
        finished=outcome if is_over else None,
    )


def _changed_since_trained(before: Plan, plan: Plan, folder: RunFolder) -> list[Problem]:
    """Nothing depends on inputs that no step was trained on: data that was refused may be corrected."""
    problems = list(changed_inputs(before, plan))
    if not problems or checkpoints_in(checkpoint_home(before)):
        return problems
    return problems if RunProgress.of(RunEvents(folder).read_new()).step > 0 else []


def _only_begun(folder: RunFolder) -> bool:
    """Whether a run took the folder, and was killed before it wrote anything."""
    attempts = folder.attempts
    is_empty = not any(any(attempt.path.iterdir()) for attempt in attempts)
    return bool(attempts) and is_empty and len(folder.occupied_by()) == len(attempts)


def for_attempt(plan: Plan, attempt: Attempt, worker: str = WORKER) -> Plan:
    """The plan with the command that starts the workers of this attempt."""
    launch = plan.launch
    if launcher_of(launch.launcher).queues:  # it submits a job, in which zpipe begins the attempt
        return plan
    settings = plan.experiment.launcher
    processes, command = launch.nproc_per_node, tuple(plan.command)
    gpus, hosts = visible_gpus(), tuple(launch.hosts)
    folder, device = folder_of(plan), launch.device
    job = Job(folder, attempt, settings, device, processes, command, gpus, hosts, worker=worker)
    rendered = launcher_of(launch.launcher).render(job)
    update = {"argv": rendered.argv, "files": dict(rendered.files)}
    return plan.model_copy(update={"launch": launch.model_copy(update=update)})


def wait_for_workers(run_dir: Path, say: Callable[[str], None]) -> None:
    """Waits for workers of an attempt whose zpipe was killed. Raises Refusal if they do not end."""
    deadline, has_said = time.monotonic() + WAIT_FOR_WORKERS_SECONDS, False
    while pids := _workers_of(run_dir):
        if not has_said:
            say(f"waiting for workers of the attempt before to end: {', '.join(map(str, pids))}")
            has_said = True
        if time.monotonic() > deadline:
            reason = f"workers of an earlier attempt are still running: {', '.join(map(str, pids))}"
            raise Refusal([Problem("hydra.run.dir", str(run_dir), reason, fix="end these processes")])
        time.sleep(0.2)


def _workers_of(run_dir: Path) -> list[int]:
    import psutil  # planning looks for no processes

    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        arguments = process.info["cmdline"] or []
        is_worker = "zpipe.train" in arguments and str(run_dir) in arguments
        if is_worker and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(int(process.pid))
    return found


def _occupied(plan: Plan) -> Problem:
    reason = "this folder already holds a run"
    fix = either("resume=auto", "leave hydra.run.dir out")
    return Problem("resume", NEVER, reason, "a new folder, or resume=auto", fix)


def _saved_elsewhere(before: Plan, plan: Plan) -> list[Problem]:
    """The run would begin anew, beside its checkpoints."""
    saved, here = before.experiment.checkpoint, plan.experiment.checkpoint
    if (saved.node_local, saved.node_local_path) == (here.node_local, here.node_local_path):
        return []
    switch, path = "true" if saved.node_local else "false", saved.node_local_path or "null"
    fix = either(f"checkpoint.node_local={switch} checkpoint.node_local_path={path}")
    reason = f"the checkpoints of this run are in {checkpoint_home(before)}"
    return [Problem("checkpoint.node_local", here.node_local, reason, "as before", fix)]


def _moved(before: Plan, plan: Plan) -> list[Problem]:
    """Checkpoints can execute code when they are loaded: those of a copied folder need the user's word."""
    if Path(before.run_dir).resolve() == Path(plan.run_dir).resolve():
        return []
    reason = f"this run was started as {before.run_dir}; its checkpoints may come from somebody else"
    return [
        Problem("hydra.run.dir", plan.run_dir, reason, "a run that was started here", "resume.trust=true")
    ]


def _still_supervised(plan: Plan) -> list[Problem]:
    if not folder_of(plan).is_supervised:
        return []
    reason = "another zpipe is running this run"
    return [Problem("hydra.run.dir", plan.run_dir, reason, "a run that has ended", "leave hydra.run.dir out")]
