"""A run that is started again although it has nothing left to do."""

import shlex

from zpipe.plans.plan import Plan
from zpipe.record.record_run import complete_record, record_run
from zpipe.record.store import tracking_uri
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.conclusion import save_record
from zpipe.terminal.console import say


def finished_before(plan: Plan, outcome: Outcome) -> Outcome:
    """Says so, and completes in MLflow what an attempt has left open."""
    say(f"this run has finished: {plan.run_dir}")
    if not plan.experiment.tracking.enabled:
        return outcome
    folder, uri = folder_of(plan), tracking_uri(plan.experiment.tracking.uri)
    record = complete_record(folder) or record_run(folder.path, uri=uri)
    if record.error is not None:
        say(f"MLflow is incomplete: {record.error}")
        say(f"bring it up to date:  {shlex.join(['zpipe', 'record', plan.run_dir])}")
    elif record.note is not None:
        say(record.note)
    return save_record(folder, outcome, record)
