"""A run that is started again although it has nothing left to do."""

from pathlib import Path

from zpipe.plans.plan import Plan
from zpipe.record.record_run import record_run
from zpipe.record.state import read_state
from zpipe.record.store import tracking_uri
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.conclusion import save_outcome
from zpipe.terminal.console import say


def finished_before(plan: Plan, outcome: Outcome) -> Outcome:
    """Says so, and completes in MLflow what a zpipe that was killed after the training has left open."""
    say(f"this run has finished: {plan.run_dir}")
    state = read_state(folder_of(plan))
    if not plan.experiment.tracking.enabled or (state is not None and state.closed):
        return outcome
    record = record_run(Path(plan.run_dir), uri=tracking_uri(plan.experiment.tracking.uri))
    if record.error is not None:
        say(f"MLflow is incomplete: {record.error}")
    update = {"mlflow_run_id": record.run_id, "record_error": record.error, "record_note": record.note}
    outcome = outcome.model_copy(update=update)
    save_outcome(outcome)
    return outcome
