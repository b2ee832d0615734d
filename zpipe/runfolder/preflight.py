"""What the nodes and ranks of `zpipe doctor` leave for node 0: a file each in the folder of the attempt."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.foreign_files import read_bytes
from zpipe.schema.base import Group

SIZES = (1 << 20, 1 << 26)
"""Bytes that the ranks reduce."""


class NodeReport(Group):
    """One machine. Sizes in bytes."""

    node: int
    host: str
    python: str
    versions: dict[str, str]
    gpus: list[str]
    cores: int
    memory: int
    run_disk_free: int
    swap_disk_free: int | None = None
    """Null without NVMe offload."""
    checkpoint_disk_free: int | None = None
    """Null where the checkpoints are in the run folder."""
    has_swap_path: bool = True
    """Whether `offload.nvme_path` exists; a run would create it, on whatever disk there is."""


class RankReport(Group):
    """One rank."""

    rank: int
    node: int
    host: str
    stage: Literal["started", "joined", "measured"] = "started"
    error: str = ""
    seconds: dict[int, Annotated[float, Field(gt=0)]] = {}
    """Of one all-reduce over all ranks, by its bytes."""


def write_node_report(attempt: Attempt, report: NodeReport) -> None:
    """Raises OSError."""
    _write(_node_file(attempt, report.node), report)


def write_rank_report(attempt: Attempt, report: RankReport) -> None:
    """Raises OSError."""
    _write(_rank_file(attempt, report.rank), report)


def node_reports(attempt: Attempt, count: int) -> list[NodeReport]:
    """Of the nodes that have told anything, in order."""
    return [*_read(NodeReport, (_node_file(attempt, node) for node in range(count)))]


def rank_reports(attempt: Attempt, count: int) -> list[RankReport]:
    """Of the ranks that have been started, in order."""
    return [*_read(RankReport, (_rank_file(attempt, rank) for rank in range(count)))]


def _node_file(attempt: Attempt, node: int) -> Path:
    return attempt.path / f"node{node}.preflight.json"


def _rank_file(attempt: Attempt, rank: int) -> Path:
    return attempt.path / f"rank{rank}.preflight.json"


def _write(file: Path, report: Group) -> None:
    write_json(file, report.model_dump(mode="json"))


Report = TypeVar("Report", NodeReport, RankReport)


def _read(kind: type[Report], files: Iterator[Path]) -> Iterator[Report]:
    for file in files:
        try:
            yield kind.model_validate_json(read_bytes(file))
        except (OSError, ValidationError):  # not written yet, or damaged
            continue
