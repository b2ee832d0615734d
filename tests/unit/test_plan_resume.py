"""`zpipe plan` of a folder that holds a run says what the run would do; of one that holds a plan, nothing."""

import json
from pathlib import Path

import pytest

from tests.support.attempts import begin_attempt, contents, end_attempt, report
from tests.support.checkpoints import edit_manifest, flip_bit, make_checkpoint, truncate
from tests.support.planning import plan_of
from zpipe.cli.main import main
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import is_only_planned, write_plan
from zpipe.running.start import start_of

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was stopped after two checkpoints."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    write_plan(plan_of("train.max_steps=60", run_dir=folder))
    end_attempt(begin_attempt(folder), "terminated")
    make_checkpoint(folder, 20)
    make_checkpoint(folder, 40)
    return folder


def plan(run: Path, *arguments: str) -> int:
    return main(["plan", f"hydra.run.dir={run}", *arguments])


def rows(out: str, title: str) -> list[str]:
    return [line[11:] for line in out.splitlines() if line.startswith(f"{title:<11}")]


def test_plan_says_from_where_the_run_would_go_on(run: Path, capsys: Captured) -> None:
    before = contents(run)
    assert plan(run, "train.max_steps=60") == 0
    out = capsys.readouterr().out
    (said,) = rows(out, "resume")
    assert said.startswith("attempt 2 would go on from step 40, checkpoint-40 (")
    assert rows(out, "change") == []
    assert "attempt-2/logs" in out
    assert "written" not in out
    assert contents(run) == before


def test_run_may_be_named_by_its_folder(run: Path, capsys: Captured) -> None:
    assert main(["plan", f"resume={run}", "train.max_steps=80"]) == 0
    out = capsys.readouterr().out
    assert "attempt 2 would go on from step 40" in rows(out, "resume")[0]
    assert rows(out, "change") == ["train.max_steps: 60 -> 80"]


def test_plan_lists_what_has_changed(run: Path, capsys: Captured) -> None:
    assert plan(run, "train.max_steps=80", "checkpoint.save_steps=7") == 0
    changes = rows(capsys.readouterr().out, "change")
    assert changes == ["checkpoint.save_steps: 500 -> 7", "train.max_steps: 60 -> 80"]


def test_plan_says_what_would_happen_to_a_checkpoint_of_another_shape(run: Path, capsys: Captured) -> None:
    assert plan(run, "train.max_steps=60", "stage=3") == 0
    out = capsys.readouterr().out
    assert rows(out, "shape") == [
        "checkpoint-40 of 1 process at stage 2 is distributed anew for 1 process at stage 3, "
        "without a copy on the disk"
    ]
    assert "stage.stage: 2 -> 3" in rows(out, "change")


def test_checkpoint_of_a_shape_that_cannot_change_is_refused(run: Path, capsys: Captured) -> None:
    edit_manifest(run / "checkpoint-40", offload={"optimizer": "nvme", "parameters": "none"}, stage=3)
    assert plan(run, "train.max_steps=60") == 2
    err = capsys.readouterr().err
    assert "offload.offload_optimizer.device=nvme: swap files on NVMe belong to their processes" in err
    assert "launcher.nproc_per_node=1 stage=3, the shape of the checkpoint" in err


def test_planning_compares_no_content(run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zpipe.checkpoints.state.digests_of", pytest.fail)
    flip_bit(run / "checkpoint-40" / "model.safetensors", 7)
    assert plan(run, "train.max_steps=60") == 0
    assert "from step 40" in capsys.readouterr().out


def test_checkpoint_that_would_be_passed_over_is_named(run: Path, capsys: Captured) -> None:
    truncate(run / "checkpoint-40" / "latest")
    assert plan(run, "train.max_steps=60") == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: checkpoint-40 is damaged and is passed over: latest: 12 bytes")
    assert "from step 20, checkpoint-20" in rows(out, "resume")[0]


def test_run_without_checkpoints_would_begin_at_step_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    write_plan(plan_of(run_dir=tmp_path / "run"))
    begin_attempt(tmp_path / "run")
    assert plan(tmp_path / "run") == 0
    said = rows(capsys.readouterr().out, "resume")
    assert said == ["attempt 2 would begin at step 0: there is no checkpoint"]


def test_finished_run_would_start_nothing(run: Path, capsys: Captured) -> None:
    end_attempt(RunFolder(run).attempt, "finished")
    assert plan(run, "train.max_steps=60") == 0
    assert rows(capsys.readouterr().out, "resume") == ["this run has finished: nothing would be started"]


def test_finished_run_goes_on_with_more_steps(run: Path, capsys: Captured) -> None:
    end_attempt(RunFolder(run).attempt, "finished")
    assert plan(run, "train.max_steps=90") == 0
    assert "attempt 2 would go on" in rows(capsys.readouterr().out, "resume")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train.max_steps=60", "train.learning_rate=5e-3"],
            "train.learning_rate=0.005: this run was started",
        ),
        (["train.max_steps=40"], "train.max_steps=40: this run was started with 60"),
        (["train.max_steps=60", "resume=never"], "resume=never: this folder already holds a run"),
    ],
    ids=["another experiment", "fewer steps", "never"],
)
def test_change_that_the_run_refuses_is_refused(
    arguments: list[str], message: str, run: Path, capsys: Captured
) -> None:
    before = contents(run)
    assert plan(run, *arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert contents(run) == before


def test_moved_run_is_refused_until_it_is_trusted(run: Path, capsys: Captured) -> None:
    moved = run.rename(run.with_name("moved"))
    assert plan(moved, "train.max_steps=60") == 2
    assert "try:     resume.trust=true" in capsys.readouterr().err
    assert plan(moved, "train.max_steps=60", "resume.trust=true") == 0


@pytest.mark.parametrize("named", ["there/../run", "link"])
def test_run_that_is_named_in_another_way_has_not_moved(
    named: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (run.parent / "there").mkdir()
    (run.parent / "link").symlink_to(run)
    monkeypatch.chdir(run.parent)
    for chosen in (f"resume={named}", f"hydra.run.dir={named}"):
        assert main(["plan", chosen, "train.max_steps=60"]) == 0, capsys.readouterr().err
        assert "attempt 2 would go on from step 40" in rows(capsys.readouterr().out, "resume")[0]


@pytest.mark.parametrize("trained", [False, True])
def test_data_that_was_refused_may_be_corrected(
    trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """What was trained with the data before depends on it."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data.txt"
    data.write_text("a line of text\n" * 100)
    chosen = f"data.path={data}"
    write_plan(plan_of(chosen, run_dir=tmp_path / "run"))
    attempt = begin_attempt(tmp_path / "run")
    if trained:
        report(attempt, ("step", {"step": 1}))
    end_attempt(attempt, "refused")
    data.write_text("another line\n" * 100)
    assert plan(tmp_path / "run", chosen) == (2 if trained else 0)
    assert ("the data changed" in capsys.readouterr().err) is trained


def test_run_in_progress_is_refused(run: Path, capsys: Captured) -> None:
    with RunFolder(run).supervision():
        assert plan(run, "train.max_steps=60") == 2
    assert "another zpipe is running this run" in capsys.readouterr().err


def test_checkpoint_of_another_run_is_refused(run: Path, capsys: Captured) -> None:
    edit_manifest(run / "checkpoint-40", run_id="that-run")
    assert plan(run, "train.max_steps=60") == 2
    assert "move checkpoint-40 out of the run folder" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_data_is_the_plan_alone(form: str, run: Path, capsys: Captured) -> None:
    assert plan(run, "train.max_steps=60", "--format", form) == 0
    out, err = capsys.readouterr()
    assert "resume: attempt 2 would go on from step 40, checkpoint-40" in err
    if form == "json":
        assert Plan.model_validate(json.loads(out)).run_dir == str(run)


def test_named_checkpoint_is_planned_into_a_new_folder(run: Path, tmp_path: Path, capsys: Captured) -> None:
    named = (f"resume={run / 'checkpoint-20'}", "resume.trust=true", "stage=3", "precision=bf16")
    assert plan(tmp_path / "new", *named) == 0
    (said,) = rows(capsys.readouterr().out, "resume")
    assert said.startswith(f"attempt 1 would go on from step 20, {run / 'checkpoint-20'} (")
    assert (tmp_path / "new" / "plan.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage=0"], "stage=0: stage 0 and the others have nothing in common"),
        (["stage=2"], "resume.trust=true"),
        ([], "not a checkpoint"),
    ],
)
def test_named_checkpoint_that_the_run_refuses_is_refused(
    arguments: list[str], message: str, run: Path, tmp_path: Path, capsys: Captured
) -> None:
    name = "checkpoint-20" if arguments else "checkpoint-21"
    assert plan(tmp_path / "new", f"resume={run / name}", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


# A folder that holds a plan and no run


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("stage=3", "offload=nvme", "precision=bf16", "train.learning_rate=1e-5"),
        ("launcher.env.HF_TOKEN=battery-staple", "tracking.uri=https://me:battery@host"),
        ("tracking.run_name=Größe", "train.max_grad_norm=1"),
    ],
    ids=["plain", "numbers", "secrets", "unicode"],
)
def test_run_may_begin_where_only_its_plan_lies(overrides: tuple[str, ...], tmp_path: Path) -> None:
    planned = plan_of(*overrides, run_dir=tmp_path / "run")
    write_plan(planned)
    assert is_only_planned(RunFolder(tmp_path / "run"))
    assert start_of(planned).attempt == 1


def test_plan_may_be_planned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan(tmp_path / "run", "stage=2") == plan(tmp_path / "run", "stage=3") == 0
    assert json.loads((tmp_path / "run" / "ds_config.json").read_text())["zero_optimization"]["stage"] == 3


def test_notes_beside_a_plan_stay(tmp_path: Path) -> None:
    planned = plan_of(run_dir=tmp_path / "run")
    write_plan(planned)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    start_of(planned)


@pytest.mark.parametrize("name", ["plan.json", "ds_config.json", "config.yaml"])
@pytest.mark.parametrize("how", ["edited", "emptied", "linked"])
def test_plan_that_was_edited_is_not_overwritten(name: str, how: str, tmp_path: Path) -> None:
    planned = plan_of(run_dir=tmp_path / "run")
    write_plan(planned)
    file = tmp_path / "run" / name
    if how == "linked":
        file.rename(tmp_path / name)
        file.symlink_to(tmp_path / name)
    else:
        file.write_text(file.read_text() + " " if how == "edited" else "")
    with pytest.raises(Refusal, match="a plan that was edited"):
        start_of(planned)


@pytest.mark.parametrize("name", ["model", "checkpoint-7", "record.json"])
def test_plan_beside_files_of_a_run_is_refused(name: str, tmp_path: Path) -> None:
    planned = plan_of(run_dir=tmp_path / "run")
    write_plan(planned)
    (tmp_path / "run" / name).touch()
    with pytest.raises(Refusal):
        start_of(planned)


def test_plan_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    write_plan(plan_of(run_dir=tmp_path / "run"))
    assert main(["record", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == "nothing to record: the plan was not started\n"
    assert is_only_planned(RunFolder(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_copied_plan_is_refused(tmp_path: Path) -> None:
    write_plan(plan_of(run_dir=tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(Refusal):
        start_of(plan_of(run_dir=tmp_path / "new"))
