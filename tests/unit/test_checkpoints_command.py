"""`zpipe checkpoints` lists the checkpoints of a run with their states; reading changes nothing."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.attempts import begin_attempt, contents, end_attempt, report
from tests.support.checkpoints import SHARD, edit_manifest, flip_bit, make_checkpoint, truncate
from tests.support.plans import make_plan
from zpipe.checkpoints.manifest import MANIFEST_NAME
from zpipe.checkpoints.state import inspect
from zpipe.cli.main import main
from zpipe.runfolder.folder import Attempt, RunFolder

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two good checkpoints that was stopped."""
    folder = tmp_path / "run"
    make_plan(folder)
    end_attempt(begin_attempt(folder), "terminated")
    make_checkpoint(folder, 20)
    make_checkpoint(folder, 40)
    return folder


def checkpoints(run: Path, *arguments: str) -> int:
    return main(["checkpoints", str(run), *arguments])


def lines(capsys: Captured) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def data(run: Path, capsys: Captured, *arguments: str) -> dict[str, Any]:
    checkpoints(run, *arguments, "--format", "json")
    return dict(json.loads(capsys.readouterr().out))


def states(run: Path, capsys: Captured, *arguments: str) -> list[tuple[str, str]]:
    return [(each["name"], each["state"]) for each in data(run, capsys, *arguments)["checkpoints"]]


def test_checkpoints_are_listed_newest_first_and_the_command_comes_last(run: Path, capsys: Captured) -> None:
    assert checkpoints(run) == 0
    heading, newest, oldest, last = lines(capsys)
    assert heading.split() == ["step", "state", "size", "written", "processes", "stage", "dtype"]
    assert re.fullmatch(r"40 +good +[\d.]+ KiB +1970-01-01 \d\d:\d\d:01 +1 +2 +bf16", newest)
    assert oldest.startswith("20 ")
    assert last == f"go on from step 40:  zpipe resume={run}"


def test_printed_command_can_be_typed(tmp_path: Path, capsys: Captured) -> None:
    run = tmp_path / "my run; ls"
    make_plan(run)
    make_checkpoint(run, 20)
    checkpoints(run)
    command = lines(capsys)[-1].partition("  ")[2]
    assert shlex.split(command) == ["zpipe", f"resume={run}"]


def test_reading_changes_nothing(run: Path) -> None:
    (run / ".saving-1-60").mkdir()
    (run / ".removing-checkpoint-10").mkdir()
    before = contents(run), sorted(run.rglob("*"))
    for arguments in ([], ["--quick"], ["--format", "table"]):
        checkpoints(run, *arguments)
    assert (contents(run), sorted(run.rglob("*"))) == before


def test_every_state_is_told_apart(run: Path, capsys: Captured) -> None:
    flip_bit(make_checkpoint(run, 50) / "model.safetensors", 7)
    (make_checkpoint(run, 60) / MANIFEST_NAME).unlink()
    edit_manifest(make_checkpoint(run, 70), resumable=False)
    make_checkpoint(run, 80, "that-run")
    (run / ".saving-2-90").mkdir()
    (run / ".removing-checkpoint-10").mkdir()
    assert states(run, capsys) == [
        (".saving-2-90", "incomplete"),
        ("checkpoint-80", "other run"),
        ("checkpoint-70", "model only"),
        ("checkpoint-60", "incomplete"),
        ("checkpoint-50", "damaged"),
        ("checkpoint-40", "good"),
        ("checkpoint-20", "good"),
        (".removing-checkpoint-10", "incomplete"),
    ]


def test_what_is_wrong_is_said_in_a_line(run: Path, capsys: Captured) -> None:
    flip_bit(make_checkpoint(run, 50) / "latest", 1)
    (run / ".saving-2-60").mkdir()
    (run / ".removing-checkpoint-10").mkdir()
    assert checkpoints(run) == 0
    said = lines(capsys)
    for line in (
        ".saving-2-60 is incomplete: half written",
        "checkpoint-50 is damaged: changed: latest",
        ".removing-checkpoint-10 is incomplete: half removed",
    ):
        assert line in said


def test_long_lists_of_damage_are_cut_in_text_and_whole_in_data(run: Path, capsys: Captured) -> None:
    for file in [each for each in (run / "checkpoint-40").rglob("*") if each.is_file()]:
        if file.name != MANIFEST_NAME:
            file.unlink()
    checkpoints(run)
    (line,) = [each for each in lines(capsys) if each.startswith("checkpoint-40")]
    assert line.endswith("; and 1 more")
    assert len(data(run, capsys)["checkpoints"][0]["findings"]) == 4


def test_quick_compares_names_and_sizes_only(
    run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_bit(run / "checkpoint-40" / SHARD, 3)
    truncate(run / "checkpoint-20" / "latest")
    assert states(run, capsys) == [("checkpoint-40", "damaged"), ("checkpoint-20", "damaged")]
    monkeypatch.setattr("zpipe.checkpoints.state.digests_of", pytest.fail)
    assert states(run, capsys, "--quick") == [("checkpoint-40", "good"), ("checkpoint-20", "damaged")]
    checkpoints(run, "--quick")
    assert "only names and sizes were compared" in lines(capsys)


def test_good_one_behind_damaged_ones_is_named(run: Path, capsys: Captured) -> None:
    truncate(run / "checkpoint-40" / "latest")
    assert checkpoints(run) == 0
    assert lines(capsys)[-1] == f"go on from step 20:  zpipe resume={run}"
    assert data(run, capsys)["goes_on_from"] == "checkpoint-20"


def damage_both(run: Path) -> None:
    for step in (20, 40):
        truncate(run / f"checkpoint-{step}" / "latest")


def make_both_model_only(run: Path) -> None:
    for step in (20, 40):
        edit_manifest(run / f"checkpoint-{step}", resumable=False)


@pytest.mark.parametrize("spoil", [damage_both, make_both_model_only])
def test_exit_code_says_that_no_checkpoint_is_good(spoil: Any, run: Path, capsys: Captured) -> None:
    spoil(run)
    for arguments in ([], ["--quick"], ["--format", "json"], ["--format", "table"]):
        assert checkpoints(run, *arguments) == 2
    capsys.readouterr()
    checkpoints(run)
    assert lines(capsys)[-1] == f"no checkpoint can be used; begin again:  zpipe resume={run}"


@pytest.mark.parametrize("leftover", [None, ".saving-1-20"])
def test_run_that_has_saved_nothing_is_no_failure(
    leftover: str | None, tmp_path: Path, capsys: Captured
) -> None:
    run = tmp_path / "run"
    make_plan(run)
    if leftover:
        (run / leftover).mkdir()
    assert checkpoints(run) == 0
    assert lines(capsys)[-1].endswith(f"; begin again:  zpipe resume={run}")


def test_checkpoint_of_another_run_stands_in_the_way(run: Path, capsys: Captured) -> None:
    make_checkpoint(run, 60, "that-run")
    assert checkpoints(run) == 0
    last = lines(capsys)[-1]
    assert last == f"move checkpoint-60 out of the run folder, then go on:  zpipe resume={run}"
    assert data(run, capsys)["goes_on_from"] is None


def test_finished_run_says_how_it_would_become_longer(run: Path, capsys: Captured) -> None:
    end_attempt(RunFolder(run).attempt, "finished")
    assert checkpoints(run) == 0
    last = lines(capsys)[-1]
    assert last.startswith("finished; with a larger train.max_steps")
    assert last.endswith(f"zpipe resume={run}")


def test_run_in_progress_offers_no_command(run: Path, capsys: Captured) -> None:
    with RunFolder(run).supervision():
        checkpoints(run)
    assert lines(capsys)[-1] == "this run is in progress"


def test_checkpoint_that_a_living_run_removes_meanwhile_is_left_out(
    run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotating(folder: Path, *arguments: Any, quick: bool = False) -> Any:
        if not quick and folder.name == "checkpoint-20":
            folder.rename(run.parent / "gone")
        return inspect(folder, *arguments, quick=quick)

    monkeypatch.setattr("zpipe.checkpoints.survey.inspect", rotating)
    assert states(run, capsys) == [("checkpoint-40", "good")]


def test_data_has_the_same_in_json_and_yaml(run: Path, capsys: Captured) -> None:
    as_json = data(run, capsys)
    checkpoints(run, "--format", "yaml")
    assert yaml.safe_load(capsys.readouterr().out) == as_json
    newest = as_json["checkpoints"][0]
    assert (as_json["verified"], as_json["best"]) == (True, None)
    assert (newest["step"], newest["world_size"], newest["stage"], newest["dtype"]) == (40, 1, 2, "bf16")
    assert newest["bytes"] == sum(map(len, contents(run / "checkpoint-40").values()))


def test_table_is_the_table_alone(run: Path, capsys: Captured) -> None:
    checkpoints(run, "--format", "table")
    assert len(lines(capsys)) == 3


def test_links_are_not_followed(run: Path, tmp_path: Path, capsys: Captured) -> None:
    elsewhere = make_checkpoint(tmp_path / "elsewhere", 60)
    for name in ("checkpoint-60", ".saving-1-60"):
        (run / name).symlink_to(elsewhere)
    newest, *others = data(run, capsys)["checkpoints"]
    assert (newest["name"], newest["state"], newest["findings"]) == ("checkpoint-60", "damaged", ["a link"])
    assert (newest["bytes"], newest["stage"]) == (None, None)
    assert [each["name"] for each in others] == ["checkpoint-40", "checkpoint-20"]


def test_file_with_the_name_of_a_checkpoint_is_named(run: Path, capsys: Captured) -> None:
    (run / "checkpoint-60").write_text("notes")
    newest, *_ = data(run, capsys)["checkpoints"]
    assert (newest["name"], newest["state"], newest["findings"]) == (
        "checkpoint-60",
        "damaged",
        ["not a folder"],
    )


def test_no_checkpoint_is_known_to_be_of_a_run_without_its_identity(run: Path, capsys: Captured) -> None:
    RunFolder(run).numbered(1).start.unlink()
    assert checkpoints(run) == 2
    out = capsys.readouterr().out
    assert "no attempt.json tells that it is this one" in out
    assert "go on from step" not in out


@pytest.mark.parametrize("time", [1e300, -1e300])
@pytest.mark.parametrize("dtype", ["bf16", "\x1b[2J\u202e[bold]"])
def test_strange_manifest_is_printed_as_text(time: float, dtype: str, run: Path, capsys: Captured) -> None:
    edit_manifest(run / "checkpoint-40", time=time, dtype=dtype)
    assert checkpoints(run) == 0
    assert not {"\x1b", "\u202e"} & set(capsys.readouterr().out)


def test_unknown_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    assert checkpoints(tmp_path / "no-run") == 2
    assert "RUN=" in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal_alone(
    run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints(run)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert checkpoints(run) == 0
    printed = capsys.readouterr()
    assert "verifying" in printed.err
    assert "verifying" not in printed.out


# --best


def log(attempt: Attempt, name: str, values: dict[int, float]) -> None:
    report(attempt, *(("metrics", {"step": step, "values": {name: value}}) for step, value in values.items()))


def best(run: Path, metric: str, capsys: Captured) -> dict[str, Any] | None:
    found: dict[str, Any] | None = data(run, capsys, "--best", metric)["best"]
    return found


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("eval_loss", 40), ("eval_perplexity", 40), ("accuracy", 20), ("fp16/loss_scale", 20)],
)
def test_smaller_losses_and_larger_scores_are_better(
    metric: str, expected: int, run: Path, capsys: Captured
) -> None:
    log(RunFolder(run).attempt, metric, {20: 0.75, 40: 0.5})
    found = best(run, metric, capsys)
    assert found is not None
    assert (found["step"], found["checkpoint"]) == (expected, f"checkpoint-{expected}")


def test_best_is_printed_before_the_command(run: Path, capsys: Captured) -> None:
    log(RunFolder(run).attempt, "eval_loss", {20: 1.25, 40: 2.5})
    assert checkpoints(run, "--best", "eval_loss") == 0
    assert lines(capsys)[-2:] == [
        "best eval_loss: 1.2500 at step 20, checkpoint-20",
        f"go on from step 40:  zpipe resume={run}",
    ]


def test_better_value_without_a_checkpoint_is_named_too(run: Path, capsys: Captured) -> None:
    log(RunFolder(run).attempt, "eval_loss", {20: 1.25, 30: 1.0, 40: 2.5})
    checkpoints(run, "--best", "eval_loss")
    assert "best eval_loss: 1.2500 at step 20, checkpoint-20 (without a checkpoint: 1 at step 30)" in lines(
        capsys
    )


def test_damaged_checkpoint_is_not_the_best(run: Path, capsys: Captured) -> None:
    log(RunFolder(run).attempt, "eval_loss", {20: 1.25, 40: 0.5})
    flip_bit(run / "checkpoint-40" / "model.safetensors", 7)
    found = best(run, "eval_loss", capsys)
    assert found is not None
    assert found["step"] == 20


def test_best_may_hold_the_model_alone(run: Path, capsys: Captured) -> None:
    log(RunFolder(run).attempt, "eval_loss", {20: 1.25, 40: 0.5})
    edit_manifest(run / "checkpoint-40", resumable=False)
    found = best(run, "eval_loss", capsys)
    assert found is not None
    assert found["step"] == 40


def test_values_that_are_not_finite_are_never_the_best(run: Path, capsys: Captured) -> None:
    log(RunFolder(run).attempt, "eval_loss", {20: float("nan"), 40: 3.0})
    log(RunFolder(run).attempt, "accuracy", {20: 0.5, 40: float("inf")})
    log(RunFolder(run).attempt, "loss", {20: float("nan")})
    assert [(best(run, name, capsys) or {}).get("step") for name in ("eval_loss", "accuracy")] == [40, 20]
    assert best(run, "loss", capsys) is None
    checkpoints(run, "--best", "loss")
    assert "best loss: none, it was never finite" in lines(capsys)


def test_metric_that_no_checkpoint_has_is_said(run: Path, capsys: Captured) -> None:
    log(RunFolder(run).attempt, "eval_loss", {30: 1.5})
    assert checkpoints(run, "--best", "eval_loss") == 0
    (line,) = [each for each in lines(capsys) if each.startswith("best")]
    assert line.startswith("best eval_loss: 1.5000 at step 30, but no intact checkpoint")


def test_values_of_every_attempt_count(run: Path, capsys: Captured) -> None:
    log(RunFolder(run).attempt, "eval_loss", {20: 1.25})
    log(begin_attempt(run, run / "checkpoint-20", 20), "eval_loss", {40: 0.5})
    found = best(run, "eval_loss", capsys)
    assert found is not None
    assert found["step"] == 40


def test_unknown_metric_is_refused_before_anything_is_read(
    run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zpipe.checkpoints.state.digests_of", pytest.fail)
    log(RunFolder(run).attempt, "eval_loss", {20: 1.25})
    log(RunFolder(run).attempt, "loss", {20: 1.25})
    assert checkpoints(run, "--best", "eval_los") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--best=eval_los: this run has no such metric" in err
    assert "allowed: eval_loss, loss" in err
    assert "try:     --best eval_loss" in err
