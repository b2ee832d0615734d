"""The `zpipe import` command: what it prints, writes and refuses."""

from pathlib import Path

import pytest

from tests.support.importing import GUIDE, import_, written
from zpipe.cli.main import main
from zpipe.problems import Refusal

Captured = pytest.CaptureFixture[str]


def test_overrides_are_printed_on_one_line(capsys: Captured) -> None:
    assert import_([str(GUIDE / "zero1.json")]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_problems_leave_stdout_empty(capsys: Captured) -> None:
    assert import_([str(GUIDE / "zero2.json")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "line 13" in printed.err


@pytest.mark.parametrize("flag", ["--fix", "--mend"])
def test_fix_applies_proposals_and_reports_them(flag: str, capsys: Captured) -> None:
    assert import_([str(GUIDE / "zero2.json"), flag, "precision=bf16"]) == 0
    printed = capsys.readouterr()
    assert "precision=bf16" in printed.out
    assert "fixed:   comma added" in printed.err


def test_former_name_of_fix_is_not_in_the_help(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        import_(["--help"])
    printed = capsys.readouterr().out
    assert "--fix" in printed
    assert "--mend" not in printed


def test_problem_with_several_fixes_needs_an_override(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 0}, "fp16": {"enabled": True}}
    file = str(written(tmp_path, config))
    assert import_([file, "--fix"]) == 2
    assert import_([file, "--fix", "stage=1"]) == 0


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
def test_invalid_request_is_refused(arguments: list[str]) -> None:
    with pytest.raises((Refusal, SystemExit)):
        import_(arguments)


def test_existing_recipe_is_not_overwritten(tmp_path: Path) -> None:
    recipe = written(tmp_path, "train: {}\n", "mine.yaml")
    with pytest.raises(Refusal, match="already exists"):
        import_([str(GUIDE / "zero1.json"), "--recipe", str(recipe)])
    assert recipe.read_text() == "train: {}\n"


def test_missing_file_is_refused_with_exit_code_2(capsys: Captured) -> None:
    assert main(["import", "nothing.json"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_override_that_is_not_yaml_stays_text(capsys: Captured) -> None:
    assert import_([str(GUIDE / "zero1.json"), "tracking.run_name=@home"]) == 0
    assert "@home" in capsys.readouterr().out
