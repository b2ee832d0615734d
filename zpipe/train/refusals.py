"""Refusals of training data, and short messages from the errors of other libraries."""

from zpipe.problems import Problem, Refusal

ALLOWED_PATHS = "a .jsonl, .json, .csv, .parquet or .txt file, a folder of such files, or a hub id"
PATH_FIX = "data.path=/path/to/train.jsonl"


def data_path_refusal(
    path: object, reason: str, *, allowed: str = ALLOWED_PATHS, fix: str = PATH_FIX
) -> Refusal:
    """A Refusal of the key `data.path`."""
    return Refusal([Problem("data.path", path, reason, allowed, fix)])


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the advice that often follows it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def hub_message(error: BaseException) -> str:
    """The first line of an error from loading by hub id; states if the hub cannot be reached."""
    message = first_line(error)
    is_offline = any(word in message.lower() for word in ("connect", "offline"))
    return f"offline, and not in this machine's cache: {message}" if is_offline else message
