"""Brings MLflow up to date with a run that has ended: `zpipe record`, and what a resumed sweep needs."""

import random
import time
from collections import deque
from pathlib import Path

from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.record.client import is_transient
from zpipe.record.follower import Follower, RecordResult, claimed, shown
from zpipe.record.metrics import milliseconds
from zpipe.record.state import StateFile, read_state
from zpipe.record.store import resolve_uri, sqlite_file
from zpipe.redact import HIDDEN, redact_uri
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import read_outcome
from zpipe.runfolder.plan_file import folder_of, read_plan_here
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.variables import would_get_credentials

_FILE_SECONDS = 90.0
"""How long to retry while other processes keep a sqlite store busy."""


def record_run(
    run_dir: Path, base: Path | None = None, uri: str | None = None, look: bool = False
) -> RecordResult:
    """Records the events that MLflow does not have and closes the run there.

    Doing it again changes nothing. A run that is being recorded by another process is not touched. `uri` is
    needed where the store has a password, which a run folder never holds; Refusal reports that. With `look`,
    the store is asked whether it still has a run that was recorded completely.
    """
    folder, base = RunFolder(run_dir.absolute()), base or Path.cwd()
    plan = read_plan_here(folder)
    uri = resolve_uri(uri, base) if uri is not None else uri_of(plan, folder, base)
    state = StateFile(folder, redact_uri(uri))
    try:
        with claimed(folder):
            note = _record_claimed(plan, uri, base, state, look)
            return RecordResult(True, state.now.run_id, note=note)
    except Exception as error:
        return RecordResult(False, state.now.run_id, shown(error, uri))


def complete_record(folder: RunFolder) -> RecordResult | None:
    """What MLflow has, if that is the whole run as far as its folder tells: no store is asked."""
    state = read_state(folder)
    if state is None or not state.closed:
        return None
    events = RunEvents(folder)
    deque(events.read_new(until=state.position), maxlen=0)
    is_complete = next(events.read_new(), None) is None
    return RecordResult(True, state.run_id) if is_complete else None


def has_begun(folder: RunFolder) -> bool:
    """Whether there is something to record: the worker accepted its inputs, or MLflow has a run of it."""
    state = read_state(folder)
    is_known = state is not None and (state.run_id is not None or state.opening)
    return is_known or RunProgress.of(RunEvents(folder).read_new()).accepted


def is_being_recorded(folder: RunFolder) -> bool:
    """Whether a living process records this run."""
    with folder.recording() as is_ours:
        return not is_ours


def _record_claimed(plan: Plan, uri: str, base: Path, state: StateFile, look: bool) -> str | None:
    """Returns what the store cannot hold.

    Retries for a while where a sqlite file is locked, and not at all where a server is down.
    """
    deadline = time.monotonic() + (_FILE_SECONDS if sqlite_file(uri) is not None else 0)
    while True:
        try:
            return _record_once(plan, uri, base, state, look)
        except Exception as error:
            if not is_transient(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.2, 1.5))  # noqa: S311 - spreads the retries of several processes


def _record_once(plan: Plan, uri: str, base: Path, state: StateFile, look: bool) -> str | None:
    state.read_again()
    folder = folder_of(plan)
    follower = Follower(plan, uri, base, state, state.now.parent_run_id)
    if state.now.closed and not follower.has_new() and not (look and _is_lost(follower)):
        return None
    follower.catch_up()
    outcome, last = read_outcome(folder), follower.progress.last_time
    follower.close(
        status=outcome.mlflow_status if outcome else state.now.status,
        end_time=None if last is None else milliseconds(last),
        files=[attempt.postmortem for attempt in folder.attempts],
        tags=outcome.tags if outcome else {},
    )
    return follower.note


def _is_lost(follower: Follower) -> bool:
    """A store that does not answer says nothing about the run."""
    try:
        return follower.is_lost()
    except Exception as error:
        if not is_transient(error):
            raise
        return False


def uri_of(plan: Plan, folder: RunFolder, base: Path, command: str = "zpipe record RUN_FOLDER") -> str:
    """The store of a run. Raises Refusal where the user has to name it, with the command to repeat."""
    state = read_state(folder)
    known = state.uri if state is not None and state.uri else resolve_uri(plan.experiment.tracking.uri, base)
    return usable_uri(known, command)


def usable_uri(uri: str, command: str) -> str:
    """A URI that only a file names. Raises Refusal where the user has to give it."""
    if HIDDEN in uri:
        reason = "the password of the store is not kept in any file"
        raise Refusal([Problem("--uri", uri, reason, fix=f"give the URI again: {command} --uri URI")])
    if would_get_credentials(uri):
        raise Refusal([foreign_server(uri, f"{command} --uri {uri}")])
    return uri


def foreign_server(uri: str, repeated: str) -> Problem:
    """The problem of a server that only a file names, while credentials for MLflow are in the environment."""
    reason = "a file names this server, which would get the MLflow credentials of your environment"
    return Problem("--uri", uri, reason, "the server in MLFLOW_TRACKING_URI", f"check it, then: {repeated}")
