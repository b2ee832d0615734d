"""What zpipe and its agent on a host tell each other: one JSON object a line, over the streams of ssh.

The environment travels here, encrypted and in no command line. A line that is not a message is skipped: a
host may print what it likes.
"""

from typing import Literal, TypeVar

from pydantic import ValidationError

from zpipe.problems import Problem
from zpipe.schema.base import Group

BEAT_SECONDS = 2.0

Question = Literal["hello", "listen", "reach", "serve"]


class Hello(Group):
    """The first line to an agent: the run, and what its host must have."""

    node: int
    run_dir: str
    folder: str
    """The working folder of zpipe."""
    plan_digest: str
    """SHA-256 of plan.json."""
    python: str
    inherited: dict[str, str]
    """Of zpipe's own environment, what the ranks get too."""
    chosen: dict[str, str]
    """launcher.env, with its secrets."""
    timeout_s: float


class Order(Group):
    """Every other line to an agent."""

    do: Literal["beat", "listen", "reach", "serve", "stacks", "stop", "kill"]
    mark: str = ""
    """serve: the value of ZPIPE_LAUNCH_ID in the processes of the launch."""


class Finding(Group):
    """A problem of a host."""

    key: str
    reason: str
    allowed: str = ""
    fix: str = ""

    @classmethod
    def of(cls, problem: Problem) -> "Finding":
        return cls(key=problem.key, reason=problem.reason, allowed=problem.allowed, fix=str(problem.fix))


class Report(Group):
    """Every line from an agent."""

    answers: Question | None = None
    findings: list[Finding] = []
    host: str = ""
    alive: bool = False
    """Whether DeepSpeed's watcher runs there."""
    states: dict[int, str] = {}
    """Of the process of each rank, as psutil names it."""
    exits: dict[int, int] = {}
    """Exit codes of the ranks that did not exit with 0; negative for a signal."""
    resident: int = 0
    """Bytes of memory of all processes of the launch."""


Message = TypeVar("Message", Hello, Order, Report)


def line_of(message: Group) -> bytes:
    """Raises PydanticSerializationError for text that is not Unicode."""
    return message.model_dump_json().encode() + b"\n"


def message_in(kind: type[Message], line: bytes) -> Message | None:
    """None for a line that is none."""
    try:
        return kind.model_validate_json(line)
    except (ValidationError, RecursionError):
        return None
