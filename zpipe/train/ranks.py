"""The rank of this process, and the writer of its events."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zpipe.runfolder.event_file import EventWriter, Kind


@dataclass(frozen=True)
class Rank:
    """The rank of this process in the launch, from the variables that torchrun sets."""

    index: int
    local_index: int
    world_size: int
    launch_id: str
    """Unique to each launch of a run folder."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prepares the data and writes the events for all ranks."""
        return self.index == 0

    @classmethod
    def from_environment(cls) -> "Rank":
        return cls(
            index=int(os.environ.get("RANK", "0")),
            local_index=int(os.environ.get("LOCAL_RANK", "0")),
            world_size=int(os.environ.get("WORLD_SIZE", "1")),
            launch_id=os.environ.get("ZPIPE_LAUNCH_ID", "0"),
        )


class Reporter:
    """Writes events on rank 0 and nothing elsewhere, so that callers need not ask who they are."""

    def __init__(self, run_dir: Path, rank: Rank) -> None:
        self._writer = EventWriter(run_dir) if rank.is_main else None

    def write(self, kind: Kind, **fields: Any) -> None:
        if self._writer is not None:
            self._writer.write(kind, **fields)

    def phase(self, name: str, detail: str = "") -> None:
        self.write("phase", name=name, detail=detail)

    def notice(self, text: str) -> None:
        self.write("notice", text=text)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.sync()
            self._writer.close()
            self._writer = None
