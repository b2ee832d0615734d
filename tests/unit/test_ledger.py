"""The ledger of a sweep records how each point ended, even if a writer was killed."""

import json
import math
import multiprocessing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from zpipe.exits import Exit
from zpipe.problems import Refusal
from zpipe.runfolder.outcome import Outcome
from zpipe.sweep import ledger
from zpipe.sweep.definition import Definition, read_definition, write_definition
from zpipe.sweep.ledger import Attempt, append, new_attempt
from zpipe.sweep.point import run_point
from zpipe.sweep.resume import _arguments, prepare
from zpipe.sweep.session import close_sweep
from zpipe.sweep.settled import settled_before

STAGE_2, STAGE_3 = ["stage=2"], ["stage=3"]


def attempt(folder: str, overrides: list[str], ending: str, session: int = 0, **fields: Any) -> Attempt:
    return Attempt(folder=folder, overrides=overrides, session=session, ending=ending, **fields)


def definition(session: int = 0) -> Definition:
    return Definition(
        arguments=["-m", "stage=2,3"], cwd="/", swept=["stage"], uri=None, experiment="zpipe", session=session
    )


def test_last_line_of_an_attempt_counts(tmp_path: Path) -> None:
    append(tmp_path, new_attempt("0", STAGE_2, 0))
    append(tmp_path, new_attempt("1", STAGE_3, 0))
    append(tmp_path, attempt("0", STAGE_2, "finished"))
    assert [(each.folder, each.ending) for each in ledger.points(tmp_path)] == [
        ("0", "finished"),
        ("1", ledger.UNFINISHED),
    ]


def test_incomplete_line_is_skipped(tmp_path: Path) -> None:
    append(tmp_path, attempt("0", STAGE_2, "finished"))
    with (tmp_path / ledger.FILE_NAME).open("ab") as file:
        file.write(b'{"folder": "1", "overr')
    append(tmp_path, attempt("2", STAGE_3, "failed"))
    assert [each.folder for each in ledger.points(tmp_path)] == ["0", "2"]


def test_later_attempt_replaces_a_failed_one(tmp_path: Path) -> None:
    append(tmp_path, attempt("0", STAGE_2, "failed"))
    append(tmp_path, attempt("1", STAGE_3, "gpu_out_of_memory"))
    append(tmp_path, attempt("0-2", STAGE_2, "finished", session=1))
    assert [each.folder for each in ledger.points(tmp_path)] == ["0-2", "1"]
    assert [(old.folder, new.folder) for old, new in ledger.superseded(tmp_path)] == [("0", "0-2")]


def test_point_tried_twice_in_one_session_counts_twice(tmp_path: Path) -> None:
    append(tmp_path, attempt("0", STAGE_2, "finished"))
    append(tmp_path, attempt("1", STAGE_2, "finished"))
    assert [each.folder for each in ledger.points(tmp_path)] == ["0", "1"]


@pytest.mark.parametrize("ending", ["finished", "gpu_out_of_memory", "host_out_of_memory", "refused"])
def test_settled_point_is_not_run_again(ending: str, tmp_path: Path) -> None:
    write_definition(tmp_path, definition(session=1))
    append(tmp_path, attempt("0", STAGE_2, ending, objective=1.5))

    def never(folder: Path, definition: Definition) -> Outcome:
        raise AssertionError("the point ran again")

    assert run_point(tmp_path, tmp_path / "0", STAGE_2, math.inf, never) == 1.5


@pytest.mark.parametrize("ending", ["failed", "rank_died", "interrupted", ledger.UNFINISHED])
def test_unsettled_point_goes_on_in_its_folder(ending: str, tmp_path: Path) -> None:
    write_definition(tmp_path, definition(session=1))
    append(tmp_path, attempt("0", STAGE_2, ending, objective=math.nan))
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "plan.json").write_text("{}")
    assert run_point(tmp_path, tmp_path / "0", STAGE_2, math.inf, trained) == 2.0
    (point,) = ledger.points(tmp_path)
    assert (point.folder, point.session, point.ending) == ("0", 1, "finished")


def test_point_whose_folder_holds_another_point_gets_a_new_one(tmp_path: Path) -> None:
    write_definition(tmp_path, definition(session=1))
    append(tmp_path, attempt("0", STAGE_3, "failed"))
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "0" / ".hydra" / "overrides.yaml").write_text("- stage=2\n")
    (tmp_path / "0" / "plan.json").write_text("{}")
    run_point(tmp_path, tmp_path / "0", STAGE_2, math.inf, trained)
    assert [(point.folder, point.ending) for point in ledger.points(tmp_path)] == [
        ("0", "failed"),
        ("0-2", "finished"),
    ]
    assert (tmp_path / "0-2" / ".hydra" / "overrides.yaml").read_text() == "- stage=2\n"


def trained(folder: Path, definition: Definition) -> Outcome:
    return Outcome(ending="finished", run_dir=str(folder), summary={"train_loss": 2.0})


def test_refused_point_is_offered_again_only_if_asked(tmp_path: Path) -> None:
    write_definition(tmp_path, definition().model_copy(update={"cwd": str(tmp_path), "whole": True}))
    append(tmp_path, attempt("0", STAGE_2, "refused"))
    append(tmp_path, attempt("1", STAGE_3, "finished"))
    prepare(tmp_path, [])
    assert settled_before(tmp_path, STAGE_2, 1) is not None
    prepare(tmp_path, [], again=True)
    assert settled_before(tmp_path, STAGE_2, 2) is None
    assert settled_before(tmp_path, STAGE_3, 2) is not None


def test_sweep_with_a_refused_point_is_complete_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_definition(tmp_path, definition().model_copy(update={"whole": True}))
    append(tmp_path, attempt("0", STAGE_2, "refused"))
    append(tmp_path, attempt("1", STAGE_3, "finished"))
    assert close_sweep(tmp_path, uri=None) == Exit.FINISHED
    printed = capsys.readouterr().out
    assert "1 refused" in printed
    assert "run the missing points" not in printed


def test_folders_with_equal_names_are_different_points(tmp_path: Path) -> None:
    write_definition(tmp_path, definition())

    def run(folder: Path, definition: Definition) -> Outcome:
        return Outcome(ending="finished", run_dir=str(folder))

    for overrides in (STAGE_2, STAGE_3):
        run_point(tmp_path, tmp_path / overrides[0] / "run", overrides, math.inf, run)
    assert [each.folder for each in ledger.points(tmp_path)] == ["stage=2/run", "stage=3/run"]


def test_point_without_objective_returns_the_worst_value(tmp_path: Path) -> None:
    write_definition(tmp_path, definition())

    def fail(folder: Path, definition: Definition) -> Outcome:
        return Outcome(ending="failed", run_dir=str(folder))

    assert run_point(tmp_path, tmp_path / "0", STAGE_2, -math.inf, fail) == -math.inf
    assert '"objective": "nan"' in (tmp_path / ledger.FILE_NAME).read_text()
    assert [each.ending for each in ledger.points(tmp_path)] == ["failed"]


def test_tracking_and_environment_do_not_change_a_point(tmp_path: Path) -> None:
    append(tmp_path, attempt("0", ["stage=2", "tracking.uri=http://a", "launcher.env.X=1"], "finished"))
    again = ["tracking.uri=http://b", "stage=2"]
    assert settled_before(tmp_path, again, session=1) is not None
    assert settled_before(tmp_path, again, session=0) is None
    assert settled_before(tmp_path, ["stage=3"], session=1) is None


def append_many(folder: Path, number: int) -> None:
    for index in range(50):
        append(folder, attempt(f"{number}-{index}", ["x" * 2000], "finished"))


def test_many_processes_append_to_one_ledger(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=append_many, args=(tmp_path, number)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    lines = (tmp_path / ledger.FILE_NAME).read_text().splitlines()
    assert len([json.loads(line) for line in lines if line]) == 8 * 50
    assert len(ledger.attempts(tmp_path)) == 8 * 50


def test_definition_has_no_secrets_and_resuming_requires_them(tmp_path: Path) -> None:

    given = "tracking.uri=postgresql://me:s3cr3t@h/db"
    write_definition(tmp_path, definition().model_copy(update={"arguments": ["-m", "stage=2,3", given]}))
    assert "s3cr3t" not in (tmp_path / "sweep.json").read_text()
    kept = read_definition(tmp_path)
    assert kept is not None
    with pytest.raises(Refusal, match=r"tracking\.uri"):
        _arguments(kept, [])
    assert _arguments(kept, [given]) == ["-m", "stage=2,3", given]


def test_label_has_only_the_swept_keys() -> None:
    swept = definition().model_copy(
        update={"swept": ["stage", "train.learning_rate", "stage.reduce_bucket_size"]}
    )
    overrides = ["model=tiny", "stage=2", "train.learning_rate=0.001", "stage.reduce_bucket_size=50000000.0"]
    assert swept.label(overrides) == "stage=2, learning_rate=0.001, reduce_bucket_size=5e7"


def test_signal_ends_the_sweep_only_in_the_leading_process(tmp_path: Path) -> None:
    from zpipe.sweep.session import PointStopped, begin

    write_definition(tmp_path, definition())

    def stop(folder: Path, definition: Definition) -> Outcome:
        return Outcome(ending="interrupted", run_dir=str(folder))

    begin([])
    assert run_point(tmp_path, tmp_path / "0", STAGE_2, math.inf, stop) == math.inf
    session = begin([])
    session.folder = tmp_path
    with pytest.raises(PointStopped) as stopped:
        run_point(tmp_path, tmp_path / "1", STAGE_3, math.inf, stop)
    assert stopped.value.exit_code == Exit.INTERRUPTED
    begin([])


@pytest.mark.parametrize("file", ["a link to nothing", "a folder"])
def test_a_sweep_that_cannot_be_read_is_a_sweep(file: str, tmp_path: Path) -> None:
    if file == "a folder":
        (tmp_path / "sweep.json").mkdir()
    else:
        (tmp_path / "sweep.json").symlink_to("nowhere")
    with pytest.raises(Refusal, match=r"sweep\.json"):
        read_definition(tmp_path)


@pytest.mark.parametrize("given", ["launcher.env.TOKEN=x", "+launcher.env.TOKEN=x"])
def test_a_hidden_value_that_is_given_again_is_not_asked_for(given: str) -> None:
    kept = definition().model_copy(update={"arguments": ["-m", "+launcher.env.TOKEN=***", "stage=2,3"]})
    assert _arguments(kept, [given]) == ["-m", "stage=2,3", given]
    with pytest.raises(Refusal, match=r"zpipe sweep resume FOLDER launcher\.env\.TOKEN="):
        _arguments(kept, [])


def test_the_ledger_is_read_once_however_many_points_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        append(tmp_path, attempt(str(number), [f"train.seed={number}"], "finished"))
    decode = Mock(side_effect=ledger.decode)
    monkeypatch.setattr(ledger, "decode", decode)
    for number in range(50):
        known = settled_before(tmp_path, [f"train.seed={number}"], session=1)
        assert known is not None
        assert known.folder == str(number)
    assert decode.call_count == 50
    append(tmp_path, attempt("50", ["train.seed=50"], "finished"))
    assert settled_before(tmp_path, ["train.seed=50"], session=1) is not None
    assert decode.call_count == 51
