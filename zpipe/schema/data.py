"""The training data: where it comes from and how it is cut into sequences."""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.batch import Positive


class Data(Group):
    """What is trained on."""

    source: Literal["files", "python_stdlib"] = "files"
    """files: `data.path`; python_stdlib: the sources of the running interpreter's standard library."""
    path: str | None = None
    """A jsonl, json, csv, parquet or text file, a folder of such, or a hub id."""
    split: str = "train"
    """Split of a hub data set."""
    columns: Literal["auto", "text", "prompt_completion", "messages"] = "auto"
    """Which columns hold the examples; auto looks."""
    max_length: Annotated[Count, Field(ge=8)] = 1024
    """Tokens of one training sequence; examples are packed into sequences of this length."""
    max_samples: Positive | None = None
    """Use only the first so many examples."""
    eval_fraction: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of the sequences that is held out for evaluation."""
    completion_only: bool = True
    """Train only on completions and assistant messages, not on prompts."""
