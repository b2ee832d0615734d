"""`zpipe import` as it is typed: what it prints, writes and refuses."""

from pathlib import Path

import pytest

from tests.support.importing import GUIDE, import_, written
from zpipe.cli.main import main
from zpipe.problems import Refusal


def test_command_prints_one_line_of_overrides_or_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_([str(GUIDE / "zero1.json")]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert import_([str(GUIDE / "zero2.json")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "line 13" in printed.err
    assert import_([str(GUIDE / "zero2.json"), "--mend", "precision=bf16"]) == 0
    printed = capsys.readouterr()
    assert "precision=bf16" in printed.out
    assert "mended:  read as if the comma were there" in printed.err


def test_what_only_the_user_can_decide_is_not_mended(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/x"}}}
    file = str(written(tmp_path, config))
    assert import_([file, "--mend"]) == 2
    assert import_([file, "--mend", "stage=3"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing.json"],
        ["zero1.txt"],
        [],
        ["stage=3"],
        [str(GUIDE / "zero1.json"), "--recipe", "x.txt"],
        [str(GUIDE / "zero1.json"), "hydra.run.dir=x"],
        [str(GUIDE / "zero1.json"), "~scheduler"],
    ],
)
def test_request_that_cannot_be_met_is_refused(arguments: list[str]) -> None:
    with pytest.raises((Refusal, SystemExit)):
        import_(arguments)


def test_a_recipe_is_never_overwritten(tmp_path: Path) -> None:
    recipe = written(tmp_path, "train: {}\n", "mine.yaml")
    with pytest.raises(Refusal, match="is there already"):
        import_([str(GUIDE / "zero1.json"), "--recipe", str(recipe)])
    assert recipe.read_text() == "train: {}\n"


def test_a_missing_file_is_a_message_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "nothing.json"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_texts_that_are_no_yaml_are_taken_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert import_([str(GUIDE / "zero1.json"), "tracking.run_name=@home"]) == 0
    assert "@home" in capsys.readouterr().out
