"""The sweep in its leading process: opened by Hydra's callback, and always closed, however it ends."""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from zpipe.exits import Exit
from zpipe.record.state import Status
from zpipe.record.store import tracking_uri
from zpipe.redact import redact, redact_uri
from zpipe.sweep import ledger
from zpipe.sweep.definition import Definition, read_definition, write_definition
from zpipe.terminal.console import show
from zpipe.terminal.sweep_table import print_sweep

if TYPE_CHECKING:
    from zpipe.record.sweeps import SweepRun


class PointStopped(BaseException):
    """A signal ended a point, and with it the sweep.

    Not an Exception, because Hydra would catch it and report a failed point.
    """

    def __init__(self, exit_code: Exit) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class SweepLeft(BaseException):
    """The points run in a queue, and nobody waits for them."""


@dataclass
class Session:
    """State of the leading process: the command line, and the store with its password."""

    arguments: list[str] = field(default_factory=list)
    folder: Path | None = None
    uri: str | None = None
    _definition: Definition | None = None

    @property
    def definition(self) -> Definition:
        assert self._definition is not None
        return self._definition

    @property
    def leads(self) -> bool:
        """Whether this process leads the sweep; otherwise it runs a point for the leading process."""
        return self.folder is not None

    @staticmethod
    def shown_uri(uri: str | None) -> str:
        return redact_uri(tracking_uri(uri))

    def open(self, folder: Path, definition: Definition, uri: str | None) -> None:
        """Opens or reopens the sweep's run in MLflow."""
        self.folder = folder
        self.uri = tracking_uri(uri) if definition.uri is not None else None
        self._definition = definition
        if self.uri is None:
            return
        try:
            run_id = _sweep_run(folder, self.uri, definition).open()
            self._definition = definition.model_copy(update={"mlflow_run_id": run_id})
        except Exception as error:
            _print(f"the sweep's run in MLflow is created later: {redact(str(error), self.uri)}")

    def note_job(self, job: str) -> None:
        """Keeps the number of a job array, so that its points are not started twice."""
        assert self.folder is not None
        self._definition = self.definition.model_copy(update={"jobs": [*self.definition.jobs, job]})
        write_definition(self.folder, self._definition)

    def close(self, stopped: Exit | None, ran_to_end: bool) -> Exit:
        """Writes points.json and the report, prints the table, and ends the sweep's run in MLflow.

        `stopped` is the exit code for a signal; `ran_to_end` means that the sweeper has no further points.
        """
        assert self.folder is not None
        write_definition(self.folder, self.definition.model_copy(update={"whole": ran_to_end}))
        return close_sweep(self.folder, self.uri, stopped)


_current = Session()


def current() -> Session:
    """The session of this process."""
    return _current


def begin(arguments: list[str]) -> Session:
    """A new session for this command line, as typed."""
    global _current
    _current = Session(arguments=arguments)
    return _current


def close_sweep(folder: Path, uri: str | None, stopped: Exit | None = None) -> Exit:
    """Closes the sweep in this folder. Idempotent. `uri` None leaves MLflow unchanged."""
    from zpipe.sweep.report import FILE_NAME, as_row, write_report

    points = ledger.points(folder)
    open_points = sum(not point.is_settled for point in points)
    definition = read_definition(folder)
    assert definition is not None
    is_complete = bool(points) and open_points == 0 and definition.whole
    files = write_report(folder, points)
    print_sweep([as_row(folder, point) for point in points])
    is_recorded = True
    if uri is not None:
        status: Status = "FINISHED" if is_complete else "KILLED" if stopped is not None else "FAILED"
        is_recorded = _close_in_mlflow(folder, uri, definition, status, files)
    if points:
        _print(f"report:  {folder / FILE_NAME}", sys.stdout)
    if refused := sum(point.is_refused for point in points):
        command = f"zpipe sweep resume {folder} --refused"
        _print(f"{refused} refused, and not tried again unless you ask:  {command}", sys.stdout)
    if not is_complete:
        _print(f"run the missing points:  zpipe sweep resume {folder}", sys.stdout)
    if stopped is not None:
        return stopped
    if not is_complete:
        return Exit.SWEEP_INCOMPLETE
    return Exit.FINISHED if is_recorded else Exit.RECORD_INCOMPLETE


def _close_in_mlflow(
    folder: Path, uri: str, definition: Definition, status: Status, files: list[Path]
) -> bool:
    """Returns whether MLflow is up to date."""
    from zpipe.sweep.figures import sweep_figures

    points = ledger.points(folder)
    runs: dict[str, str | None] = {point.mlflow_run_id: None for point in points if point.mlflow_run_id}
    for old, new in ledger.superseded(folder):
        if old.mlflow_run_id is not None:
            runs.setdefault(old.mlflow_run_id, new.mlflow_run_id)
    figures = sweep_figures(points)
    try:
        run_id = _sweep_run(folder, uri, definition).close(runs, figures, files, status)
        write_definition(folder, definition.model_copy(update={"mlflow_run_id": run_id}))
    except Exception as error:
        _print(f"MLflow is incomplete: {redact(str(error), uri)}")
        other = [] if redact_uri(uri) == definition.uri else ["--uri", redact_uri(uri)]
        _print(f"bring it up to date:  {shlex.join(['zpipe', 'record', str(folder), *other])}")
        return False
    return True


def _sweep_run(folder: Path, uri: str, definition: Definition) -> "SweepRun":
    from zpipe.record.sweeps import SweepRun

    return SweepRun(
        uri=uri,
        experiment=definition.experiment,
        name=f"sweep of {', '.join(definition.swept) or folder.name}",
        folder=folder,
        arguments=definition.arguments,
        base=Path(definition.cwd),
        run_id=definition.mlflow_run_id,
    )


def _print(text: str, stream: TextIO | None = None) -> None:
    show(text, stream or sys.stderr)
