"""Planning works where torch, transformers, deepspeed and mlflow cannot be imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import REPOSITORY, environment
from zpipe.cli.main import main

HEAVY = ("torch", "transformers", "deepspeed", "mlflow", "accelerate", "datasets")
GUIDE = REPOSITORY / "tests" / "inputs" / "guide" / "zero3.json"


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


def run_commands(commands: list[list[str]], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the commands in one process. The exit code is the highest, or 1 after a heavy import."""
    code = (
        f"import sys; from zpipe.cli.main import main; code = max([main(each) for each in {commands!r}]);"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]; sys.exit(' '.join(heavy) or code)"
    )
    return run_python(code, cwd)


def test_plan_works_without_the_heavy_packages(tmp_path: Path) -> None:
    block = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))"
    command = ["plan", "stage=3", "offload=nvme", f"hydra.run.dir={tmp_path / 'run'}"]
    done = run_python(f"{block}; from zpipe.cli.main import main; sys.exit(main({command!r}))", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "ds_config.json").read_text())["zero_optimization"]["stage"] == 3
    assert '"stage": 3' in done.stdout


def test_planning_commands_import_no_heavy_package(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    commands = [
        ["--help"],
        ["import", str(GUIDE)],
        ["plan", f"hydra.run.dir={run}"],
        ["plan", "--explain", "stage"],
        ["plan", "-m", "stage=1,2", "--format", "json"],
        ["diff", run, run],
    ]
    done = run_commands(commands, tmp_path)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_group_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    for option in (REPOSITORY / "conf").glob("*/*.yaml"):
        assert option.parent.name in text
        assert option.stem in text


def test_hydra_flags_print_the_config_and_run_nothing(tmp_path: Path) -> None:
    done = run_commands([["--cfg", "job", "stage=3"], ["--info", "defaults", "stage=3"]], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stage3_max_live_parameters: 1000000000" in done.stdout
    assert "Defaults List" in done.stdout
    assert not (tmp_path / "outputs").exists()
