"""`resume=RUN` and `zpipe rerun RUN` take the settings of a run from its plan, but trust nobody for it."""

from pathlib import Path

import pytest

from tests.support.planning import plan_of
from tests.support.plans import begin_attempt
from zpipe.compose import repeat
from zpipe.compose.repeat import continuing, repeating
from zpipe.plans.changes import other_changes
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import write_plan
from zpipe.running.start import Start, start_of

SETTINGS = (
    "stage=3",
    "offload=cpu",
    "train.max_steps=4",
    "stage.reduce_bucket_size=5e7",
    "train.seed=7",
)


@pytest.fixture
def killed(tmp_path: Path) -> Plan:
    """A run that was started with these settings and killed."""
    plan = plan_of(*SETTINGS, "resume.trust=true", run_dir=tmp_path / "run")
    write_plan(plan)
    begin_attempt(tmp_path / "run")
    return plan


def continued(killed: Plan, *more: str) -> Plan:
    folder = RunFolder(Path(killed.run_dir))
    return plan_of(*continuing(folder, list(more)), run_dir=folder.path)


def test_a_run_goes_on_with_its_own_settings(killed: Plan) -> None:
    plan = continued(killed)
    assert start_of(plan) == Start(attempt=2)
    assert other_changes(killed, plan) == []


def test_a_run_goes_on_with_what_is_changed(killed: Plan) -> None:
    start = start_of(continued(killed, "train.max_steps=8"))
    assert start.changes == ("train.max_steps: 4 -> 8",)


def test_a_run_goes_on_in_its_folder(killed: Plan) -> None:
    assert continuing(RunFolder(Path(killed.run_dir)), [])[-1] == f"hydra.run.dir={killed.run_dir}"


def test_a_run_is_named_by_its_folder(killed: Plan) -> None:
    overrides = repeat.continued([f"resume={killed.run_dir}", "train.max_steps=8"])
    assert {"train.max_steps=8", f"hydra.run.dir={killed.run_dir}"} <= set(overrides)
    assert not any(text.startswith("resume=") for text in overrides)


@pytest.mark.parametrize("value", ["auto", "never", "/no/run/here"])
def test_other_values_are_left_as_they_are(value: str) -> None:
    assert repeat.continued([f"resume={value}", "stage=3"]) == [f"resume={value}", "stage=3"]


def test_trust_is_never_taken_from_a_plan(killed: Plan) -> None:
    assert not any("resume.trust" in text for text in repeating(killed, []))
    assert "resume.trust=true" in repeating(killed, ["resume.trust=true"])
    assert continued(killed).experiment.resume.trust is False


def test_a_key_of_another_option_brings_the_option_into_a_repeated_run(tmp_path: Path) -> None:
    plan = plan_of("data=python_stdlib", "data.max_length=64", run_dir=tmp_path / "run")
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "one"}\n' * 100, encoding="utf-8")
    repeated = plan_of(*repeating(plan, [f"data.path={file}"]))
    assert (repeated.experiment.data.source, repeated.experiment.data.path) == ("files", str(file))
    assert repeated.experiment.data.max_length == 64
    own = plan_of("data=files", f"data.path={file}", "data.max_length=64", run_dir=tmp_path / "other")
    assert "data=files" in repeating(own, [f"data.path={file}"])
    assert plan_of(*repeating(own, [f"data.path={file}"])).experiment.data.max_length == 64
