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
