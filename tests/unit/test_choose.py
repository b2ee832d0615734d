"""The checkpoint that an attempt goes on from, written down for the workers."""

from pathlib import Path

import pytest

from tests.support.attempts import RUN_ID, begin_attempt
from tests.support.checkpoints import make_checkpoint, truncate
from tests.support.plans import make_plan
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.runfolder.attempt_start import AttemptStart, read_start
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.choose import choose
from zpipe.running.start import Start


def begin(plan: Plan) -> AttemptStart:
    """What the next attempt writes down."""
    folder = folder_of(plan)
    number = len(folder.attempts) + 1
    attempt = folder.begin(number)
    chosen = choose(plan, Start(attempt=number), attempt, lambda text: None)
    assert read_start(attempt) == chosen
    return chosen


def origin(start: AttemptStart) -> str | None:
    return Path(start.checkpoint).name if start.checkpoint else None


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A checkpoint of another run."""
    return make_checkpoint(tmp_path / "other", 20, "that-run")


def test_new_run_begins_at_step_0_under_its_own_name(tmp_path: Path) -> None:
    starts = [begin(make_plan(tmp_path / name)) for name in ("one", "two")]
    assert [(start.checkpoint, start.step) for start in starts] == [(None, 0)] * 2
    assert starts[0].run_id != starts[1].run_id


def test_run_goes_on_from_its_newest_good_checkpoint(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run")
    begin_attempt(tmp_path / "run")
    make_checkpoint(tmp_path / "run", 20)
    truncate(make_checkpoint(tmp_path / "run", 40) / "latest")
    start = begin(plan)
    assert (origin(start), start.step, start.run_id) == ("checkpoint-20", 20, RUN_ID)


def test_run_that_was_killed_before_its_first_checkpoint_begins_where_it_began(
    other: Path, tmp_path: Path
) -> None:
    plan = make_plan(tmp_path / "run", experiment={"resume.checkpoint": str(other), "resume.trust": True})
    first = begin(plan)
    again = begin(make_plan(tmp_path / "run"))
    assert first.checkpoint == again.checkpoint == str(other)
    assert (again.step, again.run_id) == (20, first.run_id)


def test_attempt_that_was_killed_before_it_wrote_anything_changes_nothing(
    other: Path, tmp_path: Path
) -> None:
    plan = make_plan(tmp_path / "run", experiment={"resume.checkpoint": str(other), "resume.trust": True})
    folder_of(plan).begin(1)
    assert begin(plan).checkpoint == str(other)


def test_run_whose_first_checkpoint_is_gone_is_refused(other: Path, tmp_path: Path) -> None:
    begin_attempt(tmp_path / "run", other.with_name("checkpoint-7"), 7)
    with pytest.raises(Refusal, match="checkpoint-7"):
        begin(make_plan(tmp_path / "run"))


def test_what_a_killed_attempt_left_half_written_is_removed(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run")
    begin_attempt(tmp_path / "run")
    (tmp_path / "run" / ".saving-1-20").mkdir()
    begin(plan)
    assert not (tmp_path / "run" / ".saving-1-20").exists()
