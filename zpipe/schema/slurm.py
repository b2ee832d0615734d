"""The job in which Slurm runs the workers."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from zpipe.schema.base import Count, Group
from zpipe.schema.batch import Positive

_WORD = r"[\w.,:@%+=/\[\]*&|()-]+"


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("expected one line of printable characters")
    return value


def _as_text(value: Any) -> Any:
    """Hydra reads `launcher.slurm.time=30` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Word = Annotated[str, BeforeValidator(_as_text), Field(pattern=rf"^{_WORD}$", max_length=256)]
"""A value of an option of sbatch: no blanks and no quotes, which sbatch and the shell would read."""
Line = Annotated[str, AfterValidator(_one_line)]


class Slurm(Group):
    """The job in which Slurm runs the workers. Names are those of sbatch's options."""

    partition: Word | None = None
    """Partition; null is the cluster's default."""
    account: Word | None = None
    """Account that the job is charged to."""
    qos: Word | None = None
    """Quality of service."""
    constraint: Word | None = None
    """Features that the nodes must have."""
    time: Word | None = None
    """Time limit as sbatch reads it: MINUTES, HOURS:MINUTES:SECONDS or DAYS-HOURS."""
    gpus: Word | None = None
    """GPUs of each node as COUNTxNAME, as in 8xH100; the plan is made for them. null: those of `hardware`."""
    cpus_per_task: Positive | None = None
    """CPU cores of each node."""
    mem: Word | None = None
    """Host memory of each node, such as 480G."""
    signal_s: Annotated[Count, Field(ge=0)] = 120
    """Seconds before the time limit at which the run saves and stops; 0 lets Slurm end it."""
    requeue: bool = True
    """Put the job back into the queue after that, and after the failure of a node, to go on."""
    mail_type: Word | None = None
    """When Slurm sends mail: END, FAIL, …"""
    mail_user: Word | None = None
    """Who gets it."""
    setup: list[Line] = []
    """Shell commands of the job before zpipe starts, such as `module load cuda`."""
    extra: list[Word] = []
    """Further options of sbatch, such as --exclude=n3."""
