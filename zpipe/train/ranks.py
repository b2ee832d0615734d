"""The place of this process in the launch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

NODE_RANK = "ZPIPE_NODE_RANK"
"""Set where the launcher numbers the nodes in an order of its own."""


def rank_number(environment: Mapping[str, str]) -> int:
    """The rank of a worker with these variables, by launcher.node_rank. Raises KeyError if it is none."""
    if NODE_RANK not in environment:
        return int(environment["RANK"])
    return int(environment[NODE_RANK]) * int(environment["LOCAL_WORLD_SIZE"]) + int(environment["LOCAL_RANK"])


def renumber() -> None:
    """Lets torch, DeepSpeed and transformers use the number that zpipe uses."""
    if NODE_RANK in os.environ:
        os.environ["RANK"] = str(rank_number(os.environ))


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
            index=rank_number({"RANK": "0", **os.environ}),
            local_index=int(os.environ.get("LOCAL_RANK", "0")),
            world_size=int(world_size),
            launch_id=os.environ.get("ZPIPE_JOB_ID") or os.environ.get("ZPIPE_LAUNCH_ID", "0"),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or world_size),
        )
