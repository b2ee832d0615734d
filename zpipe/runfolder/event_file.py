"""The event file: what rank 0 says, one JSON object a line, in `events.jsonl` of the run folder.

It is the only channel between the training worker (which appends) and the parent (which follows).
Each line is written with a single append and flushed, so that whatever was said before a kill is
there afterwards; a torn last line is left for the next look. Non-finite numbers are written as the
strings "nan", "inf" and "-inf", because JSON has none.
"""

import errno
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

FILE_NAME = "events.jsonl"

Kind = Literal[
    "phase",  # name, detail: what the run is doing now
    "notice",  # text: something that the user should know
    "operator",  # name, state, seconds: a DeepSpeed operator is being built or was built
    "step",  # step, of: progress without measurements, at most one a second
    "metrics",  # step, values: a dict of numbers in MLflow's names
    "difference",  # key, planned, real, serious: DeepSpeed runs something else than the plan says
    "overflow",  # step, scale_before, scale_after, skipped_total: gradients not finite, step skipped
    "nonfinite",  # step, loss, grad_norm: a logged loss that is no finite number
    "checkpoint",  # step, path (in the run folder), bytes
    "model",  # step, path (in the run folder), bytes: the final model
    "refused",  # problems: list of {key, value, reason, allowed, fix}
    "failed",  # type, message: an exception ended rank 0
    "summary",  # values: the last figures of the run
]

Event = dict[str, Any]

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class EventWriter:
    """Appends events to the file; rank 0 of a run owns the only writer."""

    def __init__(self, run_dir: Path) -> None:
        self._descriptor, self._is_torn = _open_for_append(run_dir / FILE_NAME)

    def write(self, kind: Kind, **fields: Any) -> None:
        """Appends one event. `fields` must be JSON values; floats may be non-finite.

        Raises OSError if the disk does not take the whole line. The next event then starts a new one.
        """
        event = {"time": round(time.time(), 3), "event": kind, **fields}
        line = _line(event, self._is_torn)
        self._is_torn = True
        _write_whole(self._descriptor, line)
        self._is_torn = False

    def sync(self) -> None:
        """Waits until the disk has every event so far: for the few that must outlive a power cut."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class EventReader:
    """Reads whole events from where the last look ended. `offset` is in bytes and can be stored.

    A whole line that is damaged (by a full disk, say) costs that line alone.
    """

    def __init__(self, run_dir: Path, offset: int = 0) -> None:
        self._path = run_dir / FILE_NAME
        self.offset = offset

    def read_new(self) -> Iterator[Event]:
        """Yields the events that were completed since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                event = _decode(line)
                if event is not None:
                    yield event


def append_line(path: Path, value: Any) -> None:
    """Appends a JSON value to a file of lines with a single write; several processes may do so at once.

    An empty line may come in between, where a line that was just being written seemed to be torn.
    """
    descriptor, is_torn = _open_for_append(path)
    try:
        _write_whole(descriptor, _line(value, is_torn))
    finally:
        os.close(descriptor)


def _open_for_append(path: Path) -> tuple[int, bool]:
    """The descriptor, and whether a writer that was killed left the last line without its end."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    size = os.fstat(descriptor).st_size
    return descriptor, size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _line(value: Any, after_torn: bool) -> bytes:
    try:
        text = _ENCODER.encode(value)
    except ValueError:
        text = _ENCODER.encode(encode_numbers(value))
    # A surrogate from a file name that is no UTF-8 would make the whole line unwritable.
    return (b"\n" if after_torn else b"") + text.encode(errors="backslashreplace") + b"\n"


def _write_whole(descriptor: int, line: bytes) -> None:
    written = os.write(descriptor, line)
    if written < len(line):
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {written} of {len(line)} bytes written")


def _decode(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event and "time" in event else None


def encode_numbers(value: Any) -> Any:
    """The value with every non-finite float replaced by its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: encode_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode_numbers(item) for item in value]
    return value
