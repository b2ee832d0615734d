"""`events.jsonl`: the only channel from the training worker, which appends, to its parent, which follows.

Each line is a single append, so everything that was written before a kill is there afterwards; an incomplete
last line is left for the next read.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from zpipe.runfolder.events import Event, Notice, PhaseStarted, from_line, to_line
from zpipe.runfolder.foreign_files import MOST_LINE_BYTES, is_regular, open_regular
from zpipe.runfolder.json_lines import LineWriter


class Reporter:
    """Appends events to a file on rank 0. The other ranks pass None and report nothing."""

    def __init__(self, file: Path | None) -> None:
        self._lines = None if file is None else LineWriter(file)

    def report(self, event: Event) -> None:
        """Raises OSError if the disk does not accept the whole line."""
        if self._lines is not None:
            self._lines.write(to_line(event))

    def phase(self, name: str, detail: str = "") -> None:
        self.report(PhaseStarted(name=name, detail=detail))

    def notice(self, text: str) -> None:
        self.report(Notice(text=text))

    def close(self) -> None:
        """Waits until every event is on the disk."""
        if self._lines is not None:
            self._lines.sync()
            self._lines.close()
            self._lines = None


class EventReader:
    """Reads complete events from where the last read ended. `offset` is in bytes and can be stored.

    A complete line that is damaged (by a full disk, for example) costs that line alone.
    """

    def __init__(self, file: Path, offset: int = 0) -> None:
        self._file = file
        self.offset = offset

    def read_new(self, until: int | None = None) -> Iterator[Event]:
        """Yields the events that were completed since the last call, up to a byte offset if one is given."""
        if not is_regular(self._file):
            return
        with open_regular(self._file) as file:
            file.seek(self.offset)
            for line in iter(partial(file.readline, MOST_LINE_BYTES), b""):
                if len(line) == MOST_LINE_BYTES:  # a part of a line that no event fills
                    self.offset += len(line)
                    continue
                if not line.endswith(b"\n") or (until is not None and self.offset >= until):
                    return
                self.offset += len(line)
                event = from_line(line)
                if event is not None:
                    yield event
