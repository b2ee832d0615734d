"""Prepares a sweep for another session: closes the unfinished points, which then go on in their folders."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import psutil

from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.redact import HIDDEN, redact_uri
from zpipe.runfolder.folder import RunFolder
from zpipe.running.slurm_queue import is_queued
from zpipe.sweep import ledger, trusted_arguments
from zpipe.sweep.definition import FILE_NAME, Definition, read_definition, write_definition
from zpipe.variables import would_get_credentials


def prepare(folder: Path, more: list[str], again: bool = False) -> list[str]:
    """Prepares the sweep for another session and returns its command line.

    `again` means that refused points are tried again, because what refused them has changed.

    `more` are overrides for this session, such as the URI of a store with its password, which no file
    contains. Raises Refusal.
    """
    definition = _definition(folder)
    arguments = _arguments(definition, more)
    refuse_if_any([*_still_queued(definition), *_still_running(folder)])
    os.chdir(definition.cwd)
    if _moves(definition, arguments):
        # The sweep's run becomes the parent of them all, also of those that other points replaced.
        for attempt in ledger.attempts(folder):
            _close(folder, attempt, definition, arguments)
    for attempt in ledger.points(folder):
        reopens = again and attempt.is_refused
        if reopens or not attempt.is_settled:
            _close(folder, attempt, definition, arguments)
        if reopens:
            ledger.reopen(folder, attempt)
    write_definition(
        folder, definition.model_copy(update={"session": definition.session + 1, "whole": False})
    )
    return arguments


def _definition(folder: Path) -> Definition:
    definition = read_definition(folder)
    if definition is None:
        reason = f"not a sweep: there is no {FILE_NAME} in this folder"
        raise Refusal([Problem("sweep", str(folder), reason, "outputs/multirun/DAY/TIME")])
    if not Path(definition.cwd).is_dir():
        reason = f"its relative paths start in {definition.cwd}, which no longer exists"
        raise Refusal([Problem("sweep", str(folder), reason, fix=f"mkdir -p {shlex.quote(definition.cwd)}")])
    return definition


def _arguments(definition: Definition, more: list[str]) -> list[str]:
    replaced = {_key(text) for text in more if "=" in text}
    kept = [text for text in definition.arguments if "=" not in text or _key(text) not in replaced]
    hidden = [_key(text) for text in kept if HIDDEN in text]
    refuse_if_any(
        Problem(
            key,
            HIDDEN,
            "secrets are not stored in any file",
            fix=f"set it again: zpipe sweep resume FOLDER {key}=…",
        )
        for key in hidden
    )
    refuse_if_any(_not_a_sweep(definition))
    refuse_if_any(trusted_arguments.problems(text for text in kept if text not in more))
    return [*kept, *more]


def _not_a_sweep(definition: Definition) -> list[Problem]:
    """A damaged command line without -m would start a run that has nothing to do with the sweep."""
    if any(
        text == "-m" or (len(text) > 3 and "--multirun".startswith(text)) for text in definition.arguments
    ):
        return []
    given = shlex.join(definition.arguments)
    return [Problem("sweep", f"zpipe {given}", f"{FILE_NAME} holds the command of a single run", "-m")]


def _key(argument: str) -> str:
    """`+launcher.env.A=x` and `launcher.env.A=x` set the same key."""
    return argument.partition("=")[0].lstrip("+")


def _still_queued(definition: Definition) -> Iterator[Problem]:
    for job in filter(is_queued, definition.jobs):
        reason = "points of this sweep still wait or run in this Slurm job"
        yield Problem("sweep", f"job {job}", reason, fix=f"wait until it ends, or scancel {job}")


def _still_running(folder: Path) -> list[Problem]:
    """Points whose workers or recorder are still running."""
    from zpipe.record.record_run import is_being_recorded

    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    alive = {argument for command in commands for argument in command}
    problems = []
    for attempt in ledger.points(folder):
        run_dir = folder / attempt.folder
        if attempt.is_settled or not run_dir.is_dir():
            continue
        if str(run_dir) in alive or is_being_recorded(RunFolder(run_dir)):
            fix = "wait until it ends, or end its processes"
            problems.append(Problem("sweep", str(run_dir), "this point is still running", fix=fix))
    return problems


def _close(folder: Path, attempt: ledger.Attempt, definition: Definition, arguments: list[str]) -> None:
    """Closes the run of a point in MLflow with its real ending."""
    run_dir = folder / attempt.folder
    if not RunFolder(run_dir).holds_run:
        return
    if definition.uri is None:
        ledger.append(folder, ledger.with_result(run_dir, attempt))
        return
    from zpipe.record.record_run import has_begun
    from zpipe.running.recording import record_now

    if not has_begun(RunFolder(run_dir)):
        return
    uri = given_uri(definition, arguments)
    result = record_now(run_dir, uri=uri)
    if not result.ok or result.run_id is None:
        reason = f"its run in MLflow cannot be closed: {result.error}"
        raise Refusal(
            [Problem("sweep", str(run_dir), reason, fix="start the tracking server, then try again")]
        )
    attempt = ledger.with_result(run_dir, attempt).model_copy(update={"mlflow_run_id": result.run_id})
    ledger.append(folder, attempt)


def _moves(definition: Definition, arguments: list[str]) -> bool:
    """Whether this session records to another store than the sweep was started with."""
    return definition.uri is not None and redact_uri(given_uri(definition, arguments)) != definition.uri


def given_uri(definition: Definition, arguments: list[str]) -> str:
    """The store of the sweep, with its password if the command line contains it."""
    from zpipe.record.record_run import foreign_server
    from zpipe.record.store import tracking_uri

    given = [text.partition("=")[2] for text in arguments if text.startswith("tracking.uri=")]
    assert definition.uri is not None
    if not given and would_get_credentials(definition.uri):
        repeated = f"zpipe sweep resume FOLDER tracking.uri={definition.uri}"
        raise Refusal([foreign_server(definition.uri, repeated)])
    return tracking_uri(given[-1]) if given else definition.uri
