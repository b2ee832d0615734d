"""A row of the training data, as every format gives it."""

from collections.abc import Collection
from typing import Any, NamedTuple

USED_COLUMNS = ("messages", "prompt", "completion", "text", "tools", "chat_template_kwargs")
"""The columns that any layout uses."""


class Row(NamedTuple):
    """One row of the data."""

    values: dict[str, Any]
    """By column. Of Parquet and Arrow files only USED_COLUMNS."""
    columns: Collection[str]
    """The names of all columns of this row."""
    place: str
    """Where the row stands, for people: "line 7 of /data/train.jsonl"."""
