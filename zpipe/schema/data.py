"""The training data: its source, and how it is packed into sequences."""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number
from zpipe.schema.batch import Positive


class Data(Group):
    """The training data."""

    source: Literal["files", "python_stdlib"] = "files"
    """files: `data.path`; python_stdlib: the source files of the running Python's standard library."""
    path: str | None = None
    """A jsonl, json, csv, tsv, parquet, arrow or text file, a folder of such files, or a hub id."""
    split: str = "train"
    """Split of a hub dataset, or of a folder whose files name their split (train.jsonl, val.jsonl)."""
    columns: Literal["auto", "text", "prompt_completion", "messages"] = "auto"
    """Columns that hold the examples; auto detects them."""
    max_length: Annotated[Count, Field(ge=8)] = 1024
    """Tokens per training sequence."""
    packing: Literal["wrapped", "none"] = "wrapped"
    """wrapped joins the examples and cuts them every max_length tokens, so that they attend to each other;
    none trains on one example per sequence, cut at max_length and padded."""
    max_samples: Positive | None = None
    """Use only this many examples, from the start of the dataset."""
    eval_fraction: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Fraction of the sequences held out for evaluation."""
    completion_only: bool = True
    """Train only on completions and assistant messages, not on prompts."""
    lossy_template: bool = False
    """Train although the chat template leaves out parts of the conversations."""
