"""From which checkpoint an attempt goes on, and which checkpoints are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import SHARD, edit_manifest, flip_bit, make_checkpoint
from tests.support.planning import plan_of
from tests.support.plans import begin_attempt, make_plan, plan_in, run_in
from tests.unit.test_weights import CONFIG
from zpipe.checkpoints.manifest import MANIFEST_NAME
from zpipe.plans.changes import result_digest
from zpipe.plans.plan import Engine, Plan
from zpipe.problems import Refusal
from zpipe.runfolder.attempt_start import AttemptStart, write_start
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.choose import checkpoint_for, choose, named_problems
from zpipe.running.start import Start


def attempt_at(plan: Plan, number: int = 1, changes: tuple[str, ...] = ()) -> tuple[AttemptStart, list[str]]:
    """Begins an attempt and chooses its checkpoint; returns the choice and what was said."""
    said: list[str] = []
    attempt = folder_of(plan).begin(number)
    chosen = choose(plan, Start(attempt=number, changes=changes), said.append)
    write_start(attempt, chosen)
    return chosen, said


def test_a_first_attempt_begins_at_the_beginning_and_says_nothing(tmp_path: Path) -> None:
    chosen, said = attempt_at(make_plan(tmp_path / "run"))
    assert (chosen.step, chosen.checkpoint, said) == (0, None, [])
    assert chosen.command == ["stage=2", "train.max_steps=4"]


def test_two_runs_have_two_identities(tmp_path: Path) -> None:
    first, second = (attempt_at(make_plan(tmp_path / name))[0] for name in ("a", "b"))
    assert first.run_id != second.run_id


def test_an_attempt_goes_on_from_the_newest_checkpoint(tmp_path: Path) -> None:
    run_in(tmp_path / "run", checkpoints=(9, 40, 100))
    chosen, said = attempt_at(plan_in(tmp_path / "run"), 2, ("train.max_steps: 4 -> 8",))
    assert (chosen.step, chosen.checkpoint) == (100, str(tmp_path / "run" / "checkpoint-100"))
    assert (chosen.run_id, chosen.changes) == ("this-run", ["train.max_steps: 4 -> 8"])
    assert said == ["attempt 2 goes on from step 100, checkpoint-100"]


def test_an_attempt_without_a_checkpoint_begins_again_and_says_so(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    chosen, said = attempt_at(plan_in(tmp_path / "run"), 2)
    assert (chosen.step, chosen.checkpoint, chosen.run_id) == (0, None, "this-run")
    assert said == ["attempt 2 goes on from the beginning: there is no checkpoint"]


def test_a_damaged_checkpoint_is_passed_over_with_a_warning_that_names_it(tmp_path: Path) -> None:
    run_in(tmp_path / "run", checkpoints=(10, 20, 30))
    flip_bit(tmp_path / "run" / "checkpoint-30" / SHARD, 0)
    (tmp_path / "run" / "checkpoint-20" / MANIFEST_NAME).unlink()
    chosen, said = attempt_at(plan_in(tmp_path / "run"), 2)
    assert chosen.step == 10
    assert said == [
        f"warning: checkpoint-30 is damaged and is passed over: changed: {SHARD}",
        "warning: checkpoint-20 is incomplete and is passed over: missing: manifest.json",
        "attempt 2 goes on from step 10, checkpoint-10",
    ]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run_in(tmp_path / "run", checkpoints=(10,))
    make_checkpoint(tmp_path / "run", 20, run_id="another")
    with pytest.raises(Refusal) as caught:
        attempt_at(plan_in(tmp_path / "run"), 2)
    (problem,) = caught.value.problems
    assert problem.value == str(tmp_path / "run" / "checkpoint-20")
    assert "written by the run another" in problem.reason
    assert problem.fix == "move checkpoint-20 out of the run folder, or leave hydra.run.dir out"


def test_what_a_killed_attempt_left_half_written_is_removed(tmp_path: Path) -> None:
    run_in(tmp_path / "run", checkpoints=(10,))
    (tmp_path / "run" / ".saving-1-20").mkdir()
    attempt_at(plan_in(tmp_path / "run"), 2)
    assert not (tmp_path / "run" / ".saving-1-20").exists()


def test_an_attempt_keeps_the_identity_of_the_first_one_that_has_any(tmp_path: Path) -> None:
    make_plan(tmp_path / "run")
    RunFolder(tmp_path / "run").begin(1)
    begin_attempt(tmp_path / "run", 2, run_id="second")
    assert attempt_at(plan_in(tmp_path / "run"), 3)[0].run_id == "second"


def test_the_record_of_an_attempt_holds_no_secret(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", command=["launcher.env.MY_TOKEN=s3cret-value-77", "stage=2"])
    chosen, _ = attempt_at(plan)
    assert chosen.command == ["launcher.env.MY_TOKEN=***", "stage=2"]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A checkpoint of another run: bf16."""
    return make_checkpoint(tmp_path / "other", 40, run_id="another")


def going_on_from(given: Path, folder: Path, **settings: Any) -> Plan:
    """A plan that names this checkpoint and is like the run that wrote it."""
    more = {f"resume.{name}": value for name, value in settings.items()}
    plan = plan_in(folder, {"resume.checkpoint": str(given), "train.max_steps": 100, **more})
    engine = Engine(optimizer="AdamW", scheduler="LambdaLR", dtype="bf16")
    return plan.model_copy(update={"engine": engine})


def test_a_run_may_begin_from_a_trusted_checkpoint_of_another_run(given: Path, tmp_path: Path) -> None:
    plan = going_on_from(given, tmp_path / "run", trust=True)
    edit_manifest(given, plan_digest=result_digest(plan))
    assert named_problems(plan) == []
    chosen, said = attempt_at(plan)
    assert (chosen.step, chosen.checkpoint, said) == (40, str(given), [f"checking {given}"])
    assert chosen.run_id != "another"


def test_everything_wrong_with_a_given_checkpoint_is_found_at_once(given: Path, tmp_path: Path) -> None:
    edit_manifest(given, stage=0, optimizer="FusedLion")
    (given / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 128}))
    plan = plan_in(tmp_path / "run", {"resume.checkpoint": str(given)})
    plan = plan.model_copy(update={"model": plan.model.model_copy(update={"config": CONFIG})})
    found = {problem.key: (problem.value, problem.allowed, problem.fix) for problem in named_problems(plan)}
    assert found == {
        "stage": (2, "0", "launcher.nproc_per_node=1 stage=0, the shape of the checkpoint"),
        "precision": ("fp32", "bf16", "precision=bf16"),
        "train.max_steps": (4, "more than 40", "train.max_steps=44"),
        "optimizer": (plan.engine.optimizer, "FusedLion", "optimizer=lion"),
        "model.config": (plan.model.name, "the model of the checkpoint", "model.config.vocab_size=128"),
        "resume": (str(given), "a checkpoint that you trust", "resume.trust=true"),
    }
    assert not (tmp_path / "run").exists()


def test_fix_sets_the_key_that_outweighs_its_option(given: Path, tmp_path: Path) -> None:
    edit_manifest(given, optimizer="AdamW", dtype="fp32")
    leaves = (
        "precision.dtype=bf16",
        "optimizer.type=SGD",
        f"resume.checkpoint={given}",
        "train.max_steps=60",
    )
    plan = plan_of(*leaves, "resume.trust=true", run_dir=tmp_path / "run")
    fixes = {problem.key: problem.fix for problem in named_problems(plan)}
    assert fixes["precision"] == "precision=fp32 precision.dtype=fp32"
    assert fixes["optimizer"] == "optimizer=adamw optimizer.type=AdamW"


@pytest.mark.parametrize("saved", ["FusedAdam", "DeepSpeedCPUAdam", "Adam", None])
def test_states_of_adam_are_the_same_wherever_they_were_updated(
    saved: str | None, given: Path, tmp_path: Path
) -> None:
    edit_manifest(given, optimizer=saved)
    assert named_problems(going_on_from(given, tmp_path / "run", trust=True)) == []


def test_run_without_its_identity_does_not_write_over_the_checkpoints_in_its_folder(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "run", 40)
    plan = make_plan(tmp_path / "run")
    with pytest.raises(Refusal, match=r"no attempt\.json tells which run wrote it"):
        checkpoint_for(plan, lambda _: None)


def test_link_in_place_of_a_checkpoint_is_passed_over_by_name(tmp_path: Path) -> None:
    begin_attempt(tmp_path / "run")
    make_checkpoint(tmp_path / "run", 20)
    (tmp_path / "run" / "checkpoint-40").symlink_to(make_checkpoint(tmp_path / "elsewhere", 40))
    said: list[str] = []
    found = checkpoint_for(make_plan(tmp_path / "run"), said.append)
    assert found is not None and found.step == 20
    assert said == ["warning: checkpoint-40 is damaged and is passed over: a link"]


@pytest.mark.parametrize("content", [None, "{}"], ids=["missing", "damaged"])
def test_a_folder_without_a_readable_manifest_is_no_checkpoint(
    content: str | None, given: Path, tmp_path: Path
) -> None:
    (given / MANIFEST_NAME).unlink()
    if content is not None:
        (given / MANIFEST_NAME).write_text(content)
    (problem,) = named_problems(going_on_from(given, tmp_path / "run"))
    assert (problem.key, problem.value) == ("resume", str(given))
    assert problem.reason.startswith("not a checkpoint: ")
    assert problem.allowed == "the folder of a checkpoint that zpipe wrote, auto, or never"


@pytest.mark.parametrize("word", ["auto", "never"])
def test_words_are_no_folders(word: str, tmp_path: Path) -> None:
    assert named_problems(plan_in(tmp_path / "run", {"resume.checkpoint": word})) == []


def test_a_damaged_given_checkpoint_is_refused_and_not_replaced(given: Path, tmp_path: Path) -> None:
    make_checkpoint(given.parent, 30, run_id="another")
    flip_bit(given / SHARD, 0)
    with pytest.raises(Refusal, match=f"this checkpoint is damaged: changed: {SHARD}"):
        attempt_at(going_on_from(given, tmp_path / "run", trust=True))


def test_a_model_without_its_optimizer_is_no_checkpoint_to_go_on_from(given: Path, tmp_path: Path) -> None:
    edit_manifest(given, resumable=False)
    with pytest.raises(Refusal, match="model only: it has no state of the optimizer"):
        attempt_at(going_on_from(given, tmp_path / "run", trust=True))


def begun_from(given: Path, folder: Path) -> None:
    """A run whose first attempt began from this checkpoint and was killed."""
    make_plan(folder)
    write_start(RunFolder(folder).begin(1), AttemptStart(run_id="this-run", checkpoint=str(given), step=40))


@pytest.mark.parametrize("again", [True, False], ids=["same command", "resume=auto"])
def test_a_run_without_a_checkpoint_of_its_own_goes_on_from_the_given_one(
    again: bool, given: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    begun_from(given, folder)
    plan = going_on_from(given, folder, trust=True) if again else plan_in(folder)
    chosen, said = attempt_at(plan, 2)
    assert (chosen.step, chosen.checkpoint) == (40, str(given))
    assert said[0] == f"checking {given}"
    assert "checkpoint-40 was written with other settings: learning rate" in said[1]
    assert said[2] == "attempt 2 goes on from step 40, checkpoint-40"


def test_a_checkpoint_of_its_own_is_preferred_to_the_given_one(given: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    begun_from(given, folder)
    make_checkpoint(folder, 50)
    chosen, _ = attempt_at(going_on_from(given, folder, trust=True), 2)
    assert chosen.checkpoint == str(folder / "checkpoint-50")


def test_a_given_checkpoint_may_be_gone_once_the_run_has_its_own(given: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    begun_from(given, folder)
    plan = going_on_from(given, folder, trust=True)
    shutil.rmtree(given)
    (problem,) = named_problems(plan)
    assert problem.value == str(given)
    make_checkpoint(folder, 50)
    assert named_problems(plan) == []


def test_a_refused_first_attempt_does_not_lose_the_given_checkpoint(given: Path, tmp_path: Path) -> None:
    """The first one named a damaged checkpoint, and therefore has no attempt.json."""
    make_plan(tmp_path / "run")
    RunFolder(tmp_path / "run").begin(1)
    chosen, _ = attempt_at(going_on_from(given, tmp_path / "run", trust=True), 2)
    assert chosen.checkpoint == str(given)
