"""The events of a whole run: those of its attempts, one after the other, without steps that were repeated.

An attempt that goes on from a checkpoint repeats the steps since then. The first report of a step counts, so
that every step has one value.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from zpipe.runfolder.event_file import EventReader
from zpipe.runfolder.events import CheckpointSaved, Event, Metrics, NonFiniteLoss, Overflow
from zpipe.runfolder.folder import RunFolder


class Position(NamedTuple):
    """A place in the events of a run, which can be stored."""

    attempt: int = 1
    offset: int = 0
    """Bytes into the event file of this attempt."""


class RunEvents:
    """Reads the events of every attempt from where the last read ended."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._reader = EventReader(folder.numbered(1).events)
        self._attempt = 1
        self._repeats = _Repeats()

    @classmethod
    def after_attempt(cls, folder: RunFolder, number: int) -> tuple[Self, list[Event]]:
        """A reader at the start of the attempt after this one, and the events of all attempts before."""
        events = cls(folder)
        earlier = list(events.read_new(Position(number + 1)))
        events._go_to(number + 1)
        return events, earlier

    @property
    def position(self) -> Position:
        """The end of the last event that was read."""
        return Position(self._attempt, self._reader.offset)

    def read_new(self, until: Position | None = None) -> Iterator[Event]:
        """Yields the events that were completed since the last call, up to a position if one is given."""
        while True:
            is_last = until is not None and until.attempt <= self._attempt
            limit = until.offset if until is not None and is_last else None
            yield from self._repeats.removed(self._reader.read_new(limit))
            following = self._following()
            if is_last or following is None or (until is not None and following > until.attempt):
                return
            self._go_to(following)

    def _following(self) -> int | None:
        """The next attempt that was begun; the user may have removed some in between."""
        numbers = (attempt.number for attempt in self._folder.attempts)
        return next((number for number in numbers if number > self._attempt), None)

    def _go_to(self, attempt: int) -> None:
        if attempt > self._attempt:
            self._repeats.begin_attempt()
            self._attempt = attempt
            self._reader = EventReader(self._folder.numbered(attempt).events)


class _Repeats:
    """Leaves out what an earlier attempt has reported."""

    def __init__(self) -> None:
        self._now: dict[str, int] = {}
        """The last step of this attempt by kind of event, for metrics by name."""
        self._before: dict[str, int] = {}

    def begin_attempt(self) -> None:
        for name, step in self._now.items():
            self._before[name] = max(step, self._before.get(name, -1))
        self._now = {}

    def removed(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            match event:
                case Metrics():
                    values = {
                        name: value for name, value in event.values.items() if self._is_new(name, event.step)
                    }
                    if values:
                        yield event.model_copy(update={"values": values})
                case Overflow() | NonFiniteLoss() | CheckpointSaved():
                    if self._is_new(event.event, event.step):
                        yield event
                case _:
                    yield event

    def _is_new(self, name: str, step: int) -> bool:
        self._now[name] = max(step, self._now.get(name, -1))
        return step > self._before.get(name, -1)
