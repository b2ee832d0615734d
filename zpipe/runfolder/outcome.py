"""How a run ended, as a value that is also a file: result.json in the folder of each attempt."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, PrivateAttr

from zpipe.exits import Exit
from zpipe.problems import Problem
from zpipe.runfolder.atomic import read_model, write_json
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.schema.base import Group

Ending = Literal[
    "finished",
    "refused",
    "environment",
    "operator_build",
    "gpu_out_of_memory",
    "host_out_of_memory",
    "nonfinite_loss",
    "loss_scale_stuck",
    "nothing_learned",
    "submitted",
    "hang",
    "rank_died",
    "disk_full",
    "failed",
    "preempted",
    "interrupted",
    "terminated",
]

EXIT_OF: dict[Ending, Exit] = {
    "finished": Exit.FINISHED,
    "refused": Exit.REFUSED,
    "environment": Exit.ENVIRONMENT,
    "operator_build": Exit.OPERATOR_BUILD,
    "gpu_out_of_memory": Exit.GPU_OUT_OF_MEMORY,
    "host_out_of_memory": Exit.HOST_OUT_OF_MEMORY,
    "nonfinite_loss": Exit.NONFINITE_LOSS,
    "loss_scale_stuck": Exit.LOSS_SCALE_STUCK,
    "nothing_learned": Exit.NOTHING_LEARNED,
    "submitted": Exit.FINISHED,
    "hang": Exit.HANG,
    "rank_died": Exit.RANK_DIED,
    "disk_full": Exit.DISK_FULL,
    "failed": Exit.FAILED,
    "preempted": Exit.TERMINATED,
    "interrupted": Exit.INTERRUPTED,
    "terminated": Exit.TERMINATED,
}

STOPPED: frozenset[Ending] = frozenset({"preempted", "interrupted", "terminated"})
"""Endings caused from outside, which tell nothing about the run itself."""

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Outcome(Group):
    """The end of one run. Its figures may be non-finite, like a loss."""

    model_config = ConfigDict(allow_inf_nan=True)

    ending: Ending
    reason: str = ""
    """One line for people; empty for a finished run in which nothing was remarkable."""
    failed_rank: int | None = None
    """The rank that failed first, where one did."""
    run_dir: str
    attempts: int = 1
    """How often the run was started."""
    summary: dict[str, float] = {}
    """The last figures of the run, in MLflow's metric names."""
    mlflow_run_id: str | None = None
    record_error: str | None = None
    """Why the record in MLflow is incomplete."""
    record_note: str | None = None
    """What the store of this run cannot hold."""
    _problems: tuple[Problem, ...] = PrivateAttr(())

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why the input was refused. They are not part of the file."""
        return self._problems

    def with_problems(self, problems: Iterable[Problem]) -> Self:
        """This outcome, of a run that was refused."""
        copy = self.model_copy()
        copy._problems = tuple(problems)
        return copy

    @property
    def exit_code(self) -> Exit:
        if self.ending == "finished" and self.record_error is not None:
            return Exit.RECORD_INCOMPLETE
        return EXIT_OF[self.ending]

    @property
    def mlflow_status(self) -> Status:
        """The status of the run in MLflow."""
        if self.ending == "finished":
            return "FINISHED"
        return "KILLED" if self.ending in STOPPED else "FAILED"

    @property
    def tags(self) -> dict[str, str]:
        """The ending as tags of the MLflow run."""
        given = {
            "zpipe.ending": self.ending,
            "zpipe.exit_code": str(int(EXIT_OF[self.ending])),
            "zpipe.reason": self.reason,
            "zpipe.failed_rank": "" if self.failed_rank is None else str(self.failed_rank),
        }
        return {name: value for name, value in given.items() if value}

    @property
    def objective(self) -> float:
        """What a sweeper minimises: the evaluation loss, otherwise the training loss; NaN without either."""
        for name in ("eval_loss", "train_loss"):
            if name in self.summary:
                return float(self.summary[name])
        return float("nan")


def write_outcome(outcome: Outcome) -> None:
    """Writes the result.json of the last attempt, if the run folder exists."""
    folder = RunFolder(Path(outcome.run_dir))
    if folder.path.is_dir():
        write_json(folder.attempt.result, outcome.model_dump(mode="json"))


def read_outcome(folder: RunFolder) -> Outcome | None:
    """The outcome of the last attempt; None while there is none. Raises Refusal for a damaged file."""
    return outcome_of(folder.attempt)


def outcome_of(attempt: Attempt) -> Outcome | None:
    """The same of any attempt."""
    file = attempt.result
    if not file.exists() and not file.is_symlink():
        return None
    return read_model(
        Outcome, file, "result", "a result.json that zpipe wrote; without the file: zpipe record"
    )
