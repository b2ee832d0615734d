"""One short run: the experiment with other settings, a few steps long, that leaves nothing but its logs."""

import signal

from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence
from zpipe.machine.probes import missing_requirements
from zpipe.plans.plan import Plan
from zpipe.runfolder import disk_reserve
from zpipe.runfolder.attempt_start import write_start
from zpipe.runfolder.events import Event
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import folder_of, write_plan
from zpipe.runfolder.progress import RunProgress
from zpipe.running.choose import choose
from zpipe.running.conclusion import clean_up, reasons, save_outcome
from zpipe.running.start import Start, for_attempt
from zpipe.schema.checkpoint import Checkpoint
from zpipe.schema.engine import Profiler
from zpipe.schema.experiment import Experiment
from zpipe.schema.resume import Resume
from zpipe.schema.scheduler import Scheduler
from zpipe.schema.tracking import Tracking
from zpipe.supervise.stops import Caught, in_batch_job, signals_noted
from zpipe.supervise.supervisor import make_ready, supervise
from zpipe.terminal.console import say

STEPS = 6
"""The first two are not counted (zpipe/train/metrics.py)."""
SPEED = "tokens_per_sec"
"""In the summary of a run, without its first steps."""


class _NoDisplay:
    def update(self, event: Event) -> None:
        """A short run is not shown step by step."""


def shortened(experiment: Experiment) -> Experiment:
    """The same work in each step, without evaluation, checkpoints and record."""
    train = experiment.train.model_copy(
        update={
            "max_steps": STEPS,
            "warmup_steps": 0,
            "eval_strategy": "no",
            "eval_steps": None,
            "eval_delay": 0,
            "eval_on_start": False,
            "load_best_model_at_end": False,
        }
    )
    return experiment.model_copy(
        update={
            "train": train,
            "scheduler": Scheduler(lr_scheduler_type="constant"),
            "data": experiment.data.model_copy(update={"eval_fraction": 0.0}),
            "checkpoint": Checkpoint(save_strategy="no", save_final_model=False),
            "profiler": Profiler(),
            "resume": Resume(),
            "tracking": Tracking(enabled=False),
        }
    )


def measure(plan: Plan, caught: Caught) -> Outcome:
    """Trains the few steps to their end; a signal in `caught` ends them. Raises Refusal, and OSError."""
    folder = folder_of(plan)
    attempt = folder.begin(1)
    plan = for_attempt(plan, attempt)
    write_plan(plan)
    write_start(attempt, choose(plan, Start(), say))
    make_ready(plan)
    try:
        with signals_noted(interrupt_at=1):
            missing = missing_requirements(plan, say)
    except KeyboardInterrupt:
        missing = []
    if missing or caught.number is not None:
        disk_reserve.release(attempt)
        clean_up(plan)
        lacking = Outcome(ending="environment", reason=reasons(missing), run_dir=plan.run_dir)
        return stopped(caught, plan.run_dir) if caught.number is not None else lacking
    outcome = _outcome(supervise(plan, RunProgress(), _NoDisplay(), caught), plan.run_dir)
    save_outcome(outcome)
    clean_up(plan)
    return outcome


def stopped(caught: Caught, run_dir: str) -> Outcome:
    """Of a short run whose workers a signal kept from being started."""
    number = caught.number or signal.SIGINT
    return _outcome(Evidence(returncode=1, stopped_by=number, in_batch_job=in_batch_job()), run_dir)


def _outcome(evidence: Evidence, run_dir: str) -> Outcome:
    verdict, summary = classify(evidence), evidence.progress.summary
    return Outcome(
        ending=verdict.ending,
        reason=verdict.reason,
        failed_rank=verdict.rank,
        run_dir=run_dir,
        summary=summary,
    )
