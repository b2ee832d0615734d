"""How the ranks tell each other that their files of a checkpoint are written, without a collective.

A checkpoint is written while the ranks train, and collectives belong to the training. Each rank leaves a list
of its files in the folder that is being written, or why it could not write them. Rank 0 waits for all lists,
and names the checkpoint; the others wait for that.
Where each node has its own folder, its first rank does what rank 0 does.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from zpipe.checkpoints.folders import files_below
from zpipe.checkpoints.manifest import FileEntry
from zpipe.runfolder.atomic import read_model, write_json
from zpipe.runfolder.pace import marker_seconds
from zpipe.schema.base import Group

_FOLDER = ".shares"
_FAILED = "failed.json"
_POLL_SECONDS = 0.005


class Share(Group):
    """What one rank has written."""

    files: list[FileEntry]


class Failure(Group):
    """Why one rank could not write."""

    errno: int
    text: str


def open_shares(staging: Path) -> None:
    """Raises OSError."""
    (staging / _FOLDER).mkdir()


def leave_share(staging: Path, rank: int, files: list[FileEntry]) -> None:
    """Raises OSError."""
    write_json(staging / _FOLDER / f"{rank}.json", Share(files=files).model_dump(mode="json"))


def leave_failure(staging: Path, rank: int, error: BaseException) -> None:
    """Tells the other ranks, unless the disk is too full for that: this rank ends, and they with it."""
    number = getattr(error, "errno", None) or errno.EIO
    failure = Failure(errno=number, text=f"rank {rank}: {error}")
    with suppress(OSError):
        write_json(staging / _FOLDER / _FAILED, failure.model_dump(mode="json"))


def all_shares(staging: Path, ranks: Sequence[int]) -> list[FileEntry]:
    """The files of these ranks, as soon as each has written its own. Raises OSError if one could not."""
    files = [staging / _FOLDER / f"{rank}.json" for rank in ranks]
    seconds = marker_seconds(len(ranks), _POLL_SECONDS)
    while not all(file.exists() for file in files):
        _raise_failure(staging)
        time.sleep(seconds)
    shares = [read_model(Share, file, "share", "the files that a rank has written") for file in files]
    return [entry for share in shares for entry in share.files]


def wait_until_named(staging: Path, world_size: int) -> None:
    """Until rank 0 has given the checkpoint its name. Raises OSError if a rank failed."""
    seconds = marker_seconds(world_size, _POLL_SECONDS)
    while staging.exists():
        _raise_failure(staging)
        time.sleep(seconds)


def unlisted(staging: Path, listed: Iterable[FileEntry]) -> Iterator[Path]:
    """Files of the checkpoint that no rank has listed."""
    known, shares = {staging / entry.path for entry in listed}, staging / _FOLDER
    yield from (file for file in files_below(staging) if file not in known and shares not in file.parents)


def close_shares(staging: Path) -> None:
    """Removes what is not part of the checkpoint. Raises OSError."""
    shutil.rmtree(staging / _FOLDER)


def _raise_failure(staging: Path) -> None:
    """Without a look at the shares: every rank looks, and there are as many shares."""
    file = staging / _FOLDER / _FAILED
    if file.exists():
        failure = read_model(Failure, file, "failure", "why a rank could not write")
        raise OSError(failure.errno, f"{os.strerror(failure.errno)} ({failure.text})", str(staging))
