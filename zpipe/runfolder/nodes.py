"""What the zpipe of each node tells those of the others: a file for each in a folder that all of them see."""

from typing import Literal

from pydantic import ValidationError

from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.foreign_files import read_bytes
from zpipe.runfolder.outcome import Ending
from zpipe.schema.base import Group


class NodeNote(Group):
    """The state of one node."""

    node: int
    host: str
    state: Literal["preparing", "waiting", "ready", "refused", "started", "ended"] = "preparing"
    """waiting: for the other nodes; ready and refused: whether this node can take part."""
    beat: int = 0
    """Grows while its zpipe lives; the clocks of nodes may differ."""
    clock_ahead_s: float | None = None
    """How far its clock is ahead of that of node 0, measured when it reached node 0."""
    checkpoints: list[int] = []
    """Steps of which it has its part intact, if each node has its own (checkpoint.node_local)."""
    ending: Ending | None = None
    reason: str = ""
    is_cause: bool = False
    """Whether the failure began on this node."""
    failure: "NodeNote | None" = None
    """From node 0 to the others: the node on which the failure of the run began, as far as it is known."""


def write_note(attempt: Attempt, note: NodeNote) -> None:
    """Raises OSError."""
    file = attempt.note(note.node)
    file.parent.mkdir(exist_ok=True)
    write_json(file, note.model_dump(mode="json"))


def read_note(attempt: Attempt, node: int) -> NodeNote | None:
    """None if the node has not told anything yet, or if its file cannot be read."""
    try:
        return NodeNote.model_validate_json(read_bytes(attempt.note(node)))
    except (OSError, ValidationError):
        return None
