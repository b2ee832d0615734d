"""A build lock that a killed build left behind is cleared, and the run goes on."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.process import SMALL, environment, zpipe

pytestmark = pytest.mark.real


@pytest.fixture
def own_extensions(tmp_path: Path) -> Path:
    """A folder of torch's extensions that no other run uses, with what is built of cpu_adam in it."""
    from zpipe.train.operators import build_folder

    build = "from zpipe.train.operators import *; ensure_operators(['cpu_adam'], Reporter(None))"
    subprocess.run([sys.executable, "-c", build], env=environment({"DS_ACCELERATOR": "cpu"}), check=True)
    shared = build_folder("cpu_adam")
    folder = tmp_path / "extensions"
    with FileLock(shared / ".zpipe-lock"):
        shutil.copytree(shared, folder / "cpu_adam", ignore=shutil.ignore_patterns("*lock"))
    return folder


def test_a_stale_build_lock_is_cleared_and_said(
    text_file: Path, tmp_path: Path, own_extensions: Path
) -> None:
    lock = own_extensions / "cpu_adam" / "lock"
    lock.touch()
    long_ago = time.time() - 3600
    for file in (lock, lock.parent):
        os.utime(file, (long_ago, long_ago))
    settings = [*SMALL, "offload=cpu_optimizer", f"data.path={text_file}", "tracking=none"]
    run = zpipe(tmp_path, *settings, env={"TORCH_EXTENSIONS_DIR": str(own_extensions)})
    assert run.exit_code == 0, run.explain()
    assert not lock.exists()
    assert "stale_lock_cleared" in [event.get("state") for event in run.events]
