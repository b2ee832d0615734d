"""Planning works where torch, transformers, deepspeed and mlflow cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.process import REPOSITORY

HEAVY = ("torch", "transformers", "deepspeed", "mlflow", "accelerate", "datasets")


def run_python(code: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    argv = [sys.executable, "-c", code, *arguments]
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_plan_needs_none_of_the_heavy_packages(tmp_path: Path) -> None:
    block = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))"
    code = f"{block}; from zpipe.cli.main import main; sys.exit(main())"
    folder = tmp_path / "run"
    done = run_python(code, tmp_path, "plan", "stage=3", "offload=nvme", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "ds_config.json").read_text())["zero_optimization"]["stage"] == 3
    assert '"stage": 3' in done.stdout


def test_plan_help_and_import_import_none_of_them(tmp_path: Path) -> None:
    guide = REPOSITORY / "tests" / "inputs" / "guide" / "zero3.json"
    planning = ["plan", "stage=3", f"hydra.run.dir={tmp_path / 'run'}"]
    for arguments in (["--help"], planning, ["import", str(guide)]):
        code = (
            "import sys; from zpipe.cli.main import main; main();"
            f"heavy = [name for name in {HEAVY!r} if name in sys.modules]; sys.exit(','.join(heavy) or 0)"
        )
        done = run_python(code, tmp_path, *arguments)
        assert done.returncode == 0, done.stderr


def test_explanations_sweeps_and_diffs_import_none_of_them(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    calls = [
        ["plan", f"hydra.run.dir={run}"],
        ["plan", "--explain", "stage"],
        ["plan", "-m", "stage=1,2", "--format", "json"],
        ["diff", run, run],
    ]
    code = (
        f"import sys; from zpipe.cli.main import main; code = max(main(call) for call in {calls!r});"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]; sys.exit(','.join(heavy) or code)"
    )
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_group_and_option(tmp_path: Path) -> None:
    done = run_python("from zpipe.cli.main import main; main()", tmp_path, "--help")
    for folder in (REPOSITORY / "conf").iterdir():
        if folder.is_dir():
            assert folder.name in done.stdout
            for option in folder.glob("*.yaml"):
                assert option.stem in done.stdout


def test_hydras_own_flags_print_and_run_nothing(tmp_path: Path) -> None:
    code = "import sys; from zpipe.cli.main import main; sys.exit(main())"
    config = run_python(code, tmp_path, "--cfg", "job", "stage=3")
    assert config.returncode == 0, config.stderr
    assert "stage3_max_live_parameters: 1000000000" in config.stdout
    assert run_python(code, tmp_path, "--info", "defaults", "stage=3").returncode == 0
    assert not (tmp_path / "outputs").exists()
