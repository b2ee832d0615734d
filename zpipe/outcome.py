"""How one run ended, as a value that is also a file: result.json in the run folder."""

import json
from pathlib import Path
from typing import Any, Literal

from zpipe.exits import Exit
from zpipe.plan import write_json
from zpipe.schema.base import Group

FILE_NAME = "result.json"

Ending = Literal["finished", "refused", "environment", "failed", "interrupted", "terminated"]

EXIT_OF: dict[str, Exit] = {
    "finished": Exit.FINISHED,
    "refused": Exit.REFUSED,
    "environment": Exit.ENVIRONMENT,
    "failed": Exit.FAILED,
    "interrupted": Exit.INTERRUPTED,
    "terminated": Exit.TERMINATED,
}

MLFLOW_STATUS: dict[str, Literal["FINISHED", "FAILED", "KILLED"]] = {
    "finished": "FINISHED",
    "refused": "FAILED",
    "environment": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "terminated": "KILLED",
}


class Outcome(Group):
    """The end of one run."""

    ending: Ending
    reason: str = ""
    """One line for people; empty when it finished."""
    run_dir: str
    summary: dict[str, Any] = {}
    """The last figures of the run, in MLflow's metric names."""
    mlflow_run_id: str | None = None
    record_error: str | None = None
    """Why MLflow could not be brought up to date."""

    @property
    def exit_code(self) -> Exit:
        if self.ending == "finished" and self.record_error is not None:
            return Exit.RECORD_INCOMPLETE
        return EXIT_OF[self.ending]

    @property
    def objective(self) -> float:
        """What a sweeper minimises: the evaluation loss, otherwise the training loss; NaN without either."""
        for name in ("eval_loss", "train_loss"):
            if name in self.summary:
                return float(self.summary[name])
        return float("nan")


def write_outcome(outcome: Outcome) -> None:
    """Writes result.json into the run folder, if that exists."""
    folder = Path(outcome.run_dir)
    if folder.is_dir():
        write_json(folder / FILE_NAME, outcome.model_dump(mode="json"))


def read_outcome(run_dir: Path) -> Outcome | None:
    """The outcome of a run folder; null while there is none."""
    file = run_dir / FILE_NAME
    return Outcome.model_validate(json.loads(file.read_text())) if file.is_file() else None
