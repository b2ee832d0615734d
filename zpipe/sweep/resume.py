"""What comes before a sweep is run again: what its last session left half done is closed and set aside."""

import os
from pathlib import Path

import psutil

from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.redact import HIDDEN
from zpipe.runfolder.folder import RunFolder
from zpipe.sweep import ledger
from zpipe.sweep.definition import FILE_NAME, Definition, read_definition, write_definition


def prepare(folder: Path, more: list[str]) -> list[str]:
    """Makes the sweep ready for another session and returns its command line.

    `more` are overrides for this session, such as a store's password, which no file holds. Raises Refusal.
    """
    definition = _definition(folder)
    arguments = _arguments(definition, more)
    refuse_if_any(_still_running(folder))
    os.chdir(definition.cwd)
    for attempt in ledger.points(folder):
        if not attempt.is_settled:
            _set_aside(folder, attempt, definition, arguments)
    write_definition(
        folder, definition.model_copy(update={"session": definition.session + 1, "whole": False})
    )
    return arguments


def _definition(folder: Path) -> Definition:
    definition = read_definition(folder)
    if definition is None:
        reason = f"no sweep: a folder with {FILE_NAME} is expected"
        raise Refusal([Problem("sweep", str(folder), reason, "outputs/multirun/DAY/TIME")])
    if not Path(definition.cwd).is_dir():
        reason = f"the sweep was started in {definition.cwd}, which is gone; its relative paths lead nowhere"
        raise Refusal([Problem("sweep", str(folder), reason, fix=f"make the folder again: {definition.cwd}")])
    return definition


def _arguments(definition: Definition, more: list[str]) -> list[str]:
    replaced = tuple(f"{text.partition('=')[0]}=" for text in more)
    kept = [text for text in definition.arguments if not (replaced and text.startswith(replaced))]
    hidden = [text.partition("=")[0] for text in kept if HIDDEN in text]
    refuse_if_any(
        Problem(
            key,
            HIDDEN,
            "secrets are kept in no file",
            fix=f"give it again: zpipe sweep resume FOLDER {key}=…",
        )
        for key in hidden
    )
    return [*kept, *more]


def _still_running(folder: Path) -> list[Problem]:
    """Points whose workers or whose recorder live."""
    from zpipe.record.record_run import is_being_recorded

    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    alive = {argument for command in commands for argument in command}
    problems = []
    for attempt in ledger.points(folder):
        run_dir = folder / attempt.folder
        if (
            not attempt.is_settled
            and run_dir.is_dir()
            and (str(run_dir) in alive or is_being_recorded(RunFolder(run_dir)))
        ):
            reason = "this point is still being run"
            problems.append(
                Problem("sweep", str(run_dir), reason, fix="wait for its end, or end its processes")
            )
    return problems


def _set_aside(folder: Path, attempt: ledger.Attempt, definition: Definition, arguments: list[str]) -> None:
    """Closes the run of an attempt truthfully in MLflow and takes it from under the sweep."""
    run_dir = folder / attempt.folder
    if definition.uri is None or not RunFolder(run_dir).holds_run:
        return
    from zpipe.record.record_run import has_begun, record_run
    from zpipe.record.sweeps import release_run
    from zpipe.run.recover import conclude_if_abandoned

    if not has_begun(RunFolder(run_dir)):
        return
    uri = given_uri(definition, arguments)
    conclude_if_abandoned(run_dir)
    result = record_run(run_dir, uri=uri)
    if not result.ok or result.run_id is None:
        reason = f"its run in MLflow cannot be closed: {result.error}"
        raise Refusal(
            [Problem("sweep", str(run_dir), reason, fix="start the tracking server, then try again")]
        )
    attempt = ledger.as_it_ended(run_dir, attempt).model_copy(update={"mlflow_run_id": result.run_id})
    if not attempt.is_settled:
        release_run(uri, result.run_id)
    ledger.note(folder, attempt)


def given_uri(definition: Definition, arguments: list[str]) -> str:
    """The store of the sweep, with its password where the command line has it."""
    from zpipe.record.store import tracking_uri

    given = [text.partition("=")[2] for text in arguments if text.startswith("tracking.uri=")]
    assert definition.uri is not None
    return tracking_uri(given[-1]) if given else definition.uri
