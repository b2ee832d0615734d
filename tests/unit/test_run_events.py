"""The events of a run with several attempts: each step counts once, and a reader goes on where it stopped."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.events import EventWriter
from zpipe.runfolder.events import (
    AttemptBegan,
    CheckpointSaved,
    Event,
    Metrics,
    NonFiniteLoss,
    Notice,
    Overflow,
)
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.run_events import Position, RunEvents

Written = tuple[str, dict[str, Any]]


def write(run: Path, attempt: int, *events: Written) -> None:
    writer = EventWriter(run, attempt)
    for kind, fields in events:
        writer.write(kind, **fields)
    writer.close()


def metrics(step: int, *names: str) -> Written:
    return "metrics", {"step": step, "values": {name: float(step) for name in names or ("loss",)}}


def overflow(step: int) -> Written:
    return "overflow", {"step": step, "skipped_total": 1}


def checkpoint(step: int) -> Written:
    return "checkpoint", {"step": step, "path": f"checkpoint-{step}", "bytes": 1}


def began(number: int, step: int) -> Written:
    return "attempt", {"number": number, "step": step}


def read(run: Path) -> list[Event]:
    return list(RunEvents(RunFolder(run)).read_new())


def steps(events: list[Event], kind: type[Event] = Metrics) -> list[int]:
    return [getattr(event, "step", -1) for event in events if isinstance(event, kind)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Killed at step 5; the second attempt went on from step 3 and was killed at 6, the third from 5."""
    write(tmp_path, 1, *(metrics(step) for step in (1, 2, 3, 4, 5)))
    write(tmp_path, 2, began(2, 3), *(metrics(step) for step in (4, 5, 6)))
    write(tmp_path, 3, began(3, 5), *(metrics(step) for step in (6, 7)))
    return tmp_path


def test_a_step_that_was_repeated_counts_once(run: Path) -> None:
    assert steps(read(run)) == [1, 2, 3, 4, 5, 6, 7]


def test_the_first_report_of_a_step_counts(tmp_path: Path) -> None:
    write(tmp_path, 1, ("metrics", {"step": 1, "values": {"loss": 4.0}}))
    write(tmp_path, 2, ("metrics", {"step": 1, "values": {"loss": 9.0}}))
    assert [event.values for event in read(tmp_path) if isinstance(event, Metrics)] == [{"loss": 4.0}]


def test_the_beginning_of_every_attempt_is_an_event(run: Path) -> None:
    begun = [event for event in read(run) if isinstance(event, AttemptBegan)]
    assert [(event.number, event.step) for event in begun] == [(2, 3), (3, 5)]


def test_a_step_is_new_for_each_metric_by_itself(tmp_path: Path) -> None:
    """Killed between the log of step 4 and its evaluation."""
    write(tmp_path, 1, metrics(2), metrics(2, "eval_loss"), metrics(4))
    write(tmp_path, 2, metrics(4, "loss", "grad_norm"), metrics(4, "eval_loss"), metrics(2, "eval_loss"))
    second = [event.values for event in read(tmp_path) if isinstance(event, Metrics)][3:]
    assert second == [{"grad_norm": 4.0}, {"eval_loss": 4.0}]


def test_an_evaluation_of_an_old_step_is_kept_if_there_was_none_before(tmp_path: Path) -> None:
    write(tmp_path, 1, metrics(10), metrics(20))
    write(tmp_path, 2, metrics(10, "eval_loss"), metrics(20, "eval_loss"))
    assert steps(read(tmp_path)) == [10, 20, 10, 20]


def test_within_an_attempt_nothing_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 1, metrics(4), metrics(4), metrics(2), checkpoint(4), checkpoint(4))
    events = read(tmp_path)
    assert (steps(events), steps(events, CheckpointSaved)) == ([4, 4, 2], [4, 4])


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (Overflow, overflow),
        (CheckpointSaved, checkpoint),
        (NonFiniteLoss, lambda step: ("nonfinite", {"step": step, "loss": "nan"})),
    ],
    ids=["overflow", "checkpoint", "nonfinite"],
)
def test_repeated_events_of_other_kinds_are_left_out_too(kind: Any, event: Any, tmp_path: Path) -> None:
    write(tmp_path, 1, event(2), event(4))
    write(tmp_path, 2, event(4), metrics(4), event(6))
    events = read(tmp_path)
    assert (steps(events, kind), steps(events)) == ([2, 4, 6], [4])


def test_the_highest_step_of_all_earlier_attempts_counts(tmp_path: Path) -> None:
    """The second attempt died early; the third repeats steps of the first."""
    write(tmp_path, 1, *(metrics(step) for step in (1, 2, 3, 4)))
    write(tmp_path, 2, metrics(2))
    write(tmp_path, 3, *(metrics(step) for step in (2, 3, 4, 5)))
    assert steps(read(tmp_path)) == [1, 2, 3, 4, 5]


def test_a_reader_goes_on_where_its_last_read_ended(tmp_path: Path) -> None:
    events = RunEvents(RunFolder(tmp_path))
    assert list(events.read_new()) == []
    found = []
    for attempt, step in ((1, 1), (1, 2), (2, 2), (2, 3)):
        write(tmp_path, attempt, metrics(step))
        found.append(steps(list(events.read_new())))
    assert found == [[1], [2], [], [3]]


def test_a_stored_position_is_continued_from_any_event(run: Path) -> None:
    every, positions, events = [], [Position()], RunEvents(RunFolder(run))
    for event in events.read_new():
        every.append(event)
        positions.append(events.position)
    for count, position in enumerate(positions):
        again = RunEvents(RunFolder(run))
        assert list(again.read_new(until=position)) == every[:count], position
        assert again.position == position
        assert list(again.read_new()) == every[count:], position


def test_a_reader_that_stops_in_the_middle_of_a_read_loses_nothing(run: Path) -> None:
    every, events = read(run), RunEvents(RunFolder(run))
    found = []
    while event := next(events.read_new(), None):
        found.append(event)
    assert found == every


def test_the_position_of_a_run_whose_last_attempt_was_removed_is_its_end(tmp_path: Path) -> None:
    write(tmp_path, 1, metrics(1))
    events = RunEvents(RunFolder(tmp_path))
    assert steps(list(events.read_new(until=Position(2, 100)))) == [1]
    assert events.position.attempt == 1


def test_an_incomplete_last_line_of_a_killed_attempt_does_not_hold_up_the_next(tmp_path: Path) -> None:
    write(tmp_path, 1, metrics(1), metrics(2))
    file = RunFolder(tmp_path).attempt.events
    file.write_bytes(file.read_bytes()[:-9])
    write(tmp_path, 2, metrics(2), metrics(3))
    assert steps(read(tmp_path)) == [1, 2, 3]


def test_an_attempt_without_events_does_not_hold_up_the_next(tmp_path: Path) -> None:
    write(tmp_path, 1, metrics(1))
    RunFolder(tmp_path).begin(2)
    write(tmp_path, 3, metrics(2))
    assert steps(read(tmp_path)) == [1, 2]


def test_an_attempt_whose_folder_was_removed_does_not_hold_up_the_next(tmp_path: Path) -> None:
    write(tmp_path, 2, metrics(1))
    write(tmp_path, 4, metrics(2))
    assert steps(read(tmp_path)) == [1, 2]


def test_an_attempt_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, 1, metrics(1))
    write(tmp_path / "other", 1, metrics(2))
    (run / "attempt-2").symlink_to(tmp_path / "other" / "attempt-1")
    assert steps(read(run)) == [1]


def test_a_reader_after_an_attempt_has_the_events_before_and_reads_those_that_follow(run: Path) -> None:
    events, earlier = RunEvents.after_attempt(RunFolder(run), 2)
    assert steps(earlier) == [1, 2, 3, 4, 5, 6]
    assert events.position == Position(3, 0)
    assert steps(list(events.read_new())) == [7]


def test_the_attempt_after_may_begin_later(tmp_path: Path) -> None:
    write(tmp_path, 1, metrics(1), metrics(2))
    events, earlier = RunEvents.after_attempt(RunFolder(tmp_path), 1)
    assert (steps(earlier), list(events.read_new())) == ([1, 2], [])
    write(tmp_path, 2, metrics(2), metrics(3))
    assert steps(list(events.read_new())) == [3]


def test_before_the_first_attempt_there_is_nothing(tmp_path: Path) -> None:
    events, earlier = RunEvents.after_attempt(RunFolder(tmp_path), 0)
    assert (earlier, events.position) == ([], Position(1, 0))
    write(tmp_path, 1, ("notice", {"text": "hello"}))
    assert [event.text for event in events.read_new() if isinstance(event, Notice)] == ["hello"]
