"""Memory: what happens with a plan that is predicted not to fit."""

from typing import Literal

from zpipe.schema.base import Group


class Memory(Group):
    """The predicted memory of a run against that of the machine."""

    check: Literal["refuse", "warn"] = "refuse"
    """Refuse a plan that does not fit into GPU, host or disk, or only warn of it."""
