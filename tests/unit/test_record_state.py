"""record.json says up to which place MLflow has a run, whichever version of zpipe wrote it."""

import json
from pathlib import Path

from tests.support.plans import make_plan
from tests.support.recording import metrics, phase, write_events
from zpipe.record.follower import Follower
from zpipe.record.state import RecordState, StateFile, read_state
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.run_events import Position

WITHOUT_ATTEMPTS = {
    "uri": "sqlite:////work/mlflow.db",
    "run_id": "abc",
    "experiment_id": "1",
    "parent_run_id": None,
    "offset": 120,
    "opening": False,
    "described": True,
    "status": "KILLED",
    "closed": True,
}
"""What zpipe wrote before runs had attempts."""


def test_a_state_from_before_there_were_attempts_is_of_the_first_one(tmp_path: Path) -> None:
    RunFolder(tmp_path).record_state.write_text(json.dumps(WITHOUT_ATTEMPTS))
    state = read_state(RunFolder(tmp_path))
    assert state is not None
    assert (state.run_id, state.status, state.closed) == ("abc", "KILLED", True)
    assert state.position == Position(1, 120)


def test_the_position_is_stored_and_read_again(tmp_path: Path) -> None:
    file = StateFile(RunFolder(tmp_path), "sqlite:///x.db")
    file.update_position(Position(3, 512), run_id="abc")
    assert read_state(RunFolder(tmp_path)) == RecordState("sqlite:///x.db", "abc", attempt=3, offset=512)
    assert StateFile(RunFolder(tmp_path), "").now.position == Position(3, 512)


def test_a_run_without_a_state_begins_at_its_first_event(tmp_path: Path) -> None:
    assert read_state(RunFolder(tmp_path)) is None
    assert StateFile(RunFolder(tmp_path), "").now.position == Position(1, 0)


def test_a_later_attempt_is_new_to_a_store_that_has_the_first(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    write_events(plan, phase("model"), metrics(1, loss=3.0))
    state = StateFile(folder, "sqlite:///x.db")
    state.update_position(Position(1, folder.attempt.events.stat().st_size), run_id="abc", closed=True)
    assert not Follower(plan, "sqlite:///x.db", tmp_path, state, None).has_new()
    write_events(plan, ("attempt", {"number": 2, "step": 1}), attempt=2)
    follower = Follower(plan, "sqlite:///x.db", tmp_path, state, None)
    assert follower.has_new()
    assert (follower.progress.attempts, follower.progress.loss) == (2, 3.0)
