"""The verbs of the command line: help, invalid arguments, and files that cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plans import make_plan
from tests.support.process import environment
from zpipe.cli.main import VERBS, main
from zpipe.runfolder.plan_file import write_plan

Captured = pytest.CaptureFixture[str]

HEAVY = ("pydantic", "hydra", "rich", "mlflow", "yaml", "argparse")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], ["run", "--help"], ["stage=3", "-h"]])
def test_help_lists_every_verb(arguments: list[str], capsys: Captured) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for verb in VERBS:
        assert any(line.startswith(f"  zpipe {verb}") for line in lines), verb
    assert "    --explain [KEY]          instead" in "\n".join(lines)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_its_own_help(verb: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([verb, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: zpipe {verb} ")


def test_help_of_a_verb_may_be_asked_before_it(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["help", "plan"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("usage: zpipe plan ")


def test_help_imports_no_heavy_packages() -> None:
    code = (
        "import sys; from zpipe.cli.main import main; main(['--help']);"
        f"sys.exit(','.join(set({HEAVY!r}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_option_is_refused(verb: str, capsys: Captured) -> None:
    required = {"diff": ["a", "b"], "runs": [], "ui": [], "sweep": ["resume", "folder"]}.get(verb, ["x"])
    assert main([verb, *required, "--no-such-option", "x"]) == 2
    assert f"--no-such-option: zpipe {verb} does not have this option" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs", "--limt=3"], "try:     --limit"),
        (["runs", "--uri"], "--uri: expected one argument"),
        (["runs", "extra"], "extra: zpipe runs does not accept this argument"),
        (["runs", "tracking.uri=http://me:s3cr3t@host"], "tracking.uri=http://me:***@host: zpipe runs"),
        (["show"], "the following arguments are required: RUN"),
        (["diff", "a", "b", "--format", "jsn"], "--format=jsn: unknown value"),
        (["sweep"], "the following arguments are required: ACTION, FOLDER"),
        (["sweep", "restart", "folder"], "allowed: resume, report"),
        (["tune"], "tune: no such command"),
        (["preflight", "--launch"], "try:     zpipe doctor --launch"),
        (["plna", "stage=3"], "try:     zpipe plan stage=3"),
        (["train", "--help"], "try:     zpipe run --help"),
        (["resume", "runs/a"], "try:     zpipe resume=runs/a or zpipe sweep resume FOLDER"),
        (["ckpts", "runs/a"], "try:     zpipe checkpoints runs/a"),
        (["stage=3", "plan"], "try:     zpipe plan stage=3"),
        (["plan", "doctor"], "doctor: not an override, because it has no ="),
        (["plan", "train.max_steps"], "try:     train.max_steps=-1"),
        (["plan", "--learning-rate", "3"], "try:     train.learning_rate=3"),
        (["--per_device_train_batch_size", "4"], "try:     batch.per_device_train_batch_size=4"),
        (["sweep", "report", "folder", "stage=2"], "stage=2: `zpipe sweep report` does not accept overrides"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_invalid_argument_is_refused(arguments: list[str], message: str, capsys: Captured) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_report_into_a_read_only_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    plan = make_plan(tmp_path / "run")
    write_plan(plan)
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    assert main(["report", plan.run_dir]) == 2
    assert f"{tmp_path} is not writable" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("output", ["run/plan.json", "no/such/folder.tar.gz"])
def test_report_needs_a_new_file_in_an_existing_folder(output: str, tmp_path: Path, capsys: Captured) -> None:
    plan = make_plan(tmp_path / "run")
    write_plan(plan)
    assert main(["report", plan.run_dir, "--output", output]) == 2
    assert f"--output={output}: " in capsys.readouterr().err


def test_progress_that_nobody_can_read_does_not_end_the_command() -> None:
    code = "from zpipe.terminal.console import say; say('one'); say('two'); print('done')"
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(),
            stderr=full,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "done\n")
