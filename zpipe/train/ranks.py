"""The place of this process in the launch."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """The rank of this process in the launch, from the variables that torchrun sets."""

    index: int
    local_index: int
    world_size: int
    launch_id: str
    """Unique to each launch of a run folder, and the same on all its nodes."""
    local_size: int = 1
    """Ranks on this node."""

    @property
    def node(self) -> int:
        return self.index // self.local_size

    @property
    def leads_node(self) -> bool:
        """Whether this rank acts for all of its node."""
        return self.local_index == 0

    @property
    def on_node(self) -> range:
        """The ranks of this node."""
        first = self.node * self.local_size
        return range(first, first + self.local_size)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prepares the data and writes the events for all ranks."""
        return self.index == 0

    @classmethod
    def from_environment(cls) -> "Rank":
        world_size = os.environ.get("WORLD_SIZE", "1")
        return cls(
            index=int(os.environ.get("RANK", "0")),
            local_index=int(os.environ.get("LOCAL_RANK", "0")),
            world_size=int(world_size),
            launch_id=os.environ.get("ZPIPE_JOB_ID") or os.environ.get("ZPIPE_LAUNCH_ID", "0"),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or world_size),
        )
