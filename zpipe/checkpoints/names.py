"""The names of checkpoint folders."""

import re
from pathlib import Path

# A name that only looks like a number of ours, such as checkpoint-007, is a folder of somebody else.
_NAME = re.compile(r"checkpoint-(0|[1-9][0-9]{0,17})")


def step_of(folder: Path) -> int | None:
    """The step in the name of a checkpoint folder; None for any other name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else None
