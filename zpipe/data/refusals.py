"""Refusals of training data."""

from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data

ALLOWED_PATHS = (
    "a .jsonl, .json, .csv, .tsv, .parquet, .arrow or .txt file, a folder of such files, "
    "or a hub id such as org/name"
)
PATH_FIX = "data.path=/path/to/train.jsonl"
MENDED_FIX = "data.path=/path/to/corrected/file"


class Unusable(ValueError):
    """A file or row that cannot be used. The message says why; the caller knows which file and row it is."""

    def __init__(self, reason: str, *, allowed: str = ALLOWED_PATHS, fix: str = MENDED_FIX) -> None:
        super().__init__(reason)
        self.allowed = allowed
        self.fix = fix


def data_path_refusal(
    path: object, reason: str, *, allowed: str = ALLOWED_PATHS, fix: str = PATH_FIX
) -> Refusal:
    """A Refusal of the key `data.path`."""
    return Refusal([Problem("data.path", path, reason, allowed, fix)])


def nothing_to_learn(data: Data) -> Refusal:
    """A Refusal of examples without a reply."""
    return data_path_refusal(
        data.path or data.source,
        "no trainable token: it contains only prompts, no completion and no assistant message to learn",
        allowed="examples with a completion or an assistant message",
        fix="data.completion_only=false",
    )
