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


class EventWriter:
    """Appends events to the file; rank 0 of a run owns the only writer."""

    def __init__(self, run_dir: Path) -> None:
        self._descriptor = os.open(
            run_dir / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        self._torn = False

    def write(self, kind: Kind, **fields: Any) -> None:
        """Appends one event. `fields` must be JSON values; floats may be non-finite.

        Raises OSError if there is no room for all of it; the next event then begins a new line.
        """
        event = {"time": round(time.time(), 3), "event": kind, **encode_numbers(fields)}
        line = (json.dumps(event, ensure_ascii=False) + "\n").encode()
        data = b"\n" + line if self._torn else line
        self._torn = True
        if os.write(self._descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), FILE_NAME)
        self._torn = False

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
